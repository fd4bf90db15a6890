//! Receivers that misbehave, one way each, on raw connections.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::tls::is_whole;

const CHUNK: usize = 64 * 1024;
const PAUSE: Duration = Duration::from_secs(1);

/// What a receiver does with a request.
#[derive(Clone, Debug)]
pub(crate) enum Manner {
    /// Says this, then hangs up.
    Says(String),
    /// Says this when the first bytes of the request have come, without waiting for the rest.
    SaysAtOnce(String),
    /// Says this, and then keeps the connection and its silence.
    SaysAndHangs(String),
    /// Says the first, then the second over and over, as fast as it is taken.
    Repeats(String, String),
    /// Says the first, then the second over and over, one byte a second.
    Drips(String, String),
    /// Says this, then breaks the connection.
    SaysAndResets(String),
    /// Breaks the connection when the first bytes have come.
    Resets,
}

/// A receiver; it ends when it is dropped.
pub(crate) struct HostileReceiver {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    sent: Arc<AtomicUsize>,
    _task: JoinSet<()>,
}

impl HostileReceiver {
    pub(crate) async fn start(manner: Manner) -> Self {
        Self::start_at("127.0.0.1:0", manner).await
    }

    pub(crate) async fn start_at(address: &str, manner: Manner) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (connections, sent) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let (counter, bytes) = (Arc::clone(&connections), Arc::clone(&sent));
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut open = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                counter.fetch_add(1, Ordering::SeqCst);
                open.spawn(serve(stream, manner.clone(), Arc::clone(&bytes)));
            }
        });
        Self {
            address,
            connections,
            sent,
            _task: task,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/webhooks", self.address)
    }

    /// How many connections were made to it.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// How many bytes of endless answers it got rid of.
    pub(crate) fn sent(&self) -> usize {
        self.sent.load(Ordering::SeqCst)
    }
}

async fn serve(mut stream: TcpStream, manner: Manner, sent: Arc<AtomicUsize>) {
    let mut request = Vec::new();
    while !is_whole(&request) {
        if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
            return;
        }
        match manner {
            Manner::Resets => return reset(&stream),
            Manner::SaysAtOnce(_) => break,
            Manner::Says(_)
            | Manner::SaysAndHangs(_)
            | Manner::Repeats(..)
            | Manner::Drips(..)
            | Manner::SaysAndResets(_) => {}
        }
    }
    match manner {
        Manner::Says(text) | Manner::SaysAtOnce(text) => {
            drop(stream.write_all(text.as_bytes()).await);
            drop(stream.shutdown().await);
            // An end with unread bytes would be a reset.
            while stream.read_buf(&mut request).await.unwrap_or(0) > 0 {}
        }
        Manner::SaysAndHangs(text) => {
            drop(stream.write_all(text.as_bytes()).await);
            while stream.read_buf(&mut request).await.unwrap_or(0) > 0 {}
        }
        Manner::Repeats(first, part) => {
            let many = part.repeat((CHUNK / part.len()).max(1));
            if stream.write_all(first.as_bytes()).await.is_err() {
                return;
            }
            while stream.write_all(many.as_bytes()).await.is_ok() {
                sent.fetch_add(many.len(), Ordering::SeqCst);
            }
        }
        Manner::Drips(first, part) => {
            if stream.write_all(first.as_bytes()).await.is_err() {
                return;
            }
            for byte in part.as_bytes().iter().cycle() {
                if stream.write_all(&[*byte]).await.is_err() {
                    return;
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
        Manner::SaysAndResets(text) => {
            drop(stream.write_all(text.as_bytes()).await);
            reset(&stream);
        }
        Manner::Resets => {}
    }
}

fn reset(stream: &TcpStream) {
    let socket = socket2::SockRef::from(stream);
    socket.set_linger(Some(Duration::ZERO)).unwrap();
}
