//! HTTP as bytes, for what no HTTP client would send.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// What came back.
#[derive(Clone, Debug, Default)]
pub(super) struct Reply {
    /// The status; `None` if the connection was closed without an answer.
    pub(super) status: Option<u16>,
    pub(super) head: String,
    pub(super) body: String,
}

impl Reply {
    /// A header of the answer; `""` if there is none.
    pub(super) fn header(&self, name: &str) -> &str {
        let lines = self.head.lines().filter_map(|line| line.split_once(':'));
        let mut found = lines.filter(|(key, _)| key.eq_ignore_ascii_case(name));
        found.next().map_or("", |(_, value)| value.trim())
    }
}

/// Sends `request` and reads the first answer. With `is_cut` nothing more is sent, and the connection is
/// read to its end.
pub(super) async fn ask(address: &str, request: &[u8], is_head: bool, is_cut: bool) -> Reply {
    let stream = TcpStream::connect(address).await.expect("a connection");
    let (mut reader, mut writer) = stream.into_split();
    let send = async {
        // Whoever refuses a request need not read it all.
        let sent = writer.write_all(request).await;
        if is_cut && sent.is_ok() {
            drop(writer.shutdown().await);
        }
        std::future::pending::<()>().await;
    };
    let receive = async {
        let mut bytes = Vec::new();
        let mut chunk = vec![0; 64 * 1024];
        while is_cut || !is_whole(&bytes, is_head) {
            match reader.read(&mut chunk).await {
                Ok(count @ 1..) => bytes.extend_from_slice(&chunk[..count]),
                Ok(0) | Err(_) => break,
            }
        }
        bytes
    };
    tokio::select! {
        () = send => Reply::default(),
        bytes = receive => reply(&bytes),
    }
}

fn reply(bytes: &[u8]) -> Reply {
    let text = String::from_utf8_lossy(bytes);
    let Some((head, body)) = final_answer(&text) else {
        return Reply::default();
    };
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    let mut reply = Reply {
        status,
        head: head.to_owned(),
        body: body.to_owned(),
    };
    // What follows is the answer to what followed.
    if let Ok(length) = reply.header("content-length").parse() {
        body.get(..length)
            .unwrap_or(body)
            .clone_into(&mut reply.body);
    }
    reply
}

/// The head and what follows it, without answers such as `100 Continue` before.
fn final_answer(text: &str) -> Option<(&str, &str)> {
    let (head, body) = text.split_once("\r\n\r\n")?;
    if head.starts_with("HTTP/1.1 1") {
        return final_answer(body);
    }
    Some((head, body))
}

fn is_whole(bytes: &[u8], is_head: bool) -> bool {
    let reply = reply(bytes);
    let Some(status) = reply.status else {
        return false;
    };
    if is_head || status == 204 || status == 304 {
        return true;
    }
    if reply.header("transfer-encoding") == "chunked" {
        return reply.body.ends_with("0\r\n\r\n");
    }
    let length = reply.header("content-length").parse::<usize>();
    length.is_ok_and(|length| reply.body.len() >= length)
}
