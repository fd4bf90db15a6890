//! HTTP byte by byte: what no client library would send, and what it would hide of an answer.

use std::io::Read as _;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

/// No answer takes longer.
const PATIENCE: Duration = Duration::from_secs(20);

/// A connection of its own to a server.
#[derive(Debug)]
pub(crate) struct Connection(TcpStream);

/// An answer as it came.
#[derive(Debug)]
pub(crate) struct RawAnswer {
    pub(crate) status: u16,
    headers: String,
    body: Vec<u8>,
}

impl Connection {
    pub(crate) async fn to(server: SocketAddr) -> Self {
        Self(TcpStream::connect(server).await.unwrap())
    }

    /// From another of this machine's addresses.
    pub(crate) async fn from(client: IpAddr, server: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::new(client, 0)).unwrap();
        Self(socket.connect(server).await.unwrap())
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        // A server that refuses may close before it has read everything.
        drop(self.0.write_all(bytes).await);
    }

    /// Whether the server answers a request, and keeps the connection.
    pub(crate) async fn is_served(&mut self) -> bool {
        self.send(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").await;
        let mut start = [0; 12];
        let read = tokio::time::timeout(PATIENCE, self.0.read(&mut start)).await;
        read.expect("an answer or the end")
            .is_ok_and(|read| read > 0)
    }

    /// Everything that comes until the server closes.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let read = tokio::time::timeout(PATIENCE, self.0.read_to_end(&mut bytes)).await;
        // A reset is an end as well.
        drop(read.expect("the server closes the connection"));
        bytes
    }
}

/// Sends `request` and reads the answer, after which the server must close the connection.
pub(crate) async fn exchange(server: SocketAddr, request: &str) -> RawAnswer {
    let mut connection = Connection::to(server).await;
    connection.send(request.as_bytes()).await;
    RawAnswer::parse(&connection.rest().await)
}

impl RawAnswer {
    /// The first answer in `bytes`.
    pub(crate) fn parse(bytes: &[u8]) -> Self {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
        let end =
            end.unwrap_or_else(|| panic!("no answer in {:?}", String::from_utf8_lossy(bytes)));
        let head = std::str::from_utf8(&bytes[..end]).unwrap();
        let (status, headers) = head.split_once("\r\n").unwrap();
        let mut answer = Self {
            status: status.split(' ').nth(1).unwrap().parse().unwrap(),
            headers: headers.to_owned(),
            body: Vec::new(),
        };
        let body = &bytes[end + 4..];
        answer.body = match (
            answer.header("content-length"),
            answer.header("transfer-encoding"),
        ) {
            (Some(length), _) => body[..length.parse().unwrap()].to_vec(),
            (None, Some("chunked")) => unchunked(body),
            (None, _) => Vec::new(),
        };
        answer
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.split("\r\n");
        headers.find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }

    /// The body, decompressed if it has to be.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        if self.header("content-encoding") == Some("gzip") {
            flate2::read::GzDecoder::new(&*self.body)
                .read_to_string(&mut text)
                .unwrap();
        } else {
            text.push_str(std::str::from_utf8(&self.body).unwrap());
        }
        text
    }

    /// The body of an answer that has this status.
    #[track_caller]
    pub(crate) fn expect(&self, status: u16) -> serde_json::Value {
        assert_eq!(self.status, status, "{self:?}");
        serde_json::from_str(&self.text()).unwrap()
    }

    /// How many bytes the body has on the wire.
    pub(crate) fn length(&self) -> usize {
        self.body.len()
    }
}

fn unchunked(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let end = rest
            .windows(2)
            .position(|window| window == b"\r\n")
            .unwrap();
        let size = std::str::from_utf8(&rest[..end]).unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            return body;
        }
        body.extend_from_slice(&rest[end + 2..end + 2 + size]);
        rest = &rest[end + 2 + size + 2..];
    }
}
