//! A wire between a server and its database that can be cut, held up, and broken on one side.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

const CHUNK: usize = 16 * 1024;

/// How the wire is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    /// As it should be.
    Fine,
    /// Each way takes so long.
    Slow(Duration),
    /// Nothing comes through, and nobody is told.
    Dead,
    /// What the client says comes through, what the server answers does not.
    DeadFromServer,
    /// Connections break, and new ones too.
    Broken,
}

/// A proxy for TCP connections; it ends when it is dropped.
pub(crate) struct Proxy {
    address: SocketAddr,
    wire: watch::Sender<Wire>,
    _task: JoinSet<()>,
}

impl Proxy {
    /// A wire to `target`, fine for now.
    pub(crate) async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (wire, state) = watch::channel(Wire::Fine);
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut open = JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let state = state.clone();
                open.spawn(async move {
                    // A refusal is passed on as the end of the connection.
                    if let Ok(server) = TcpStream::connect(target).await {
                        join(client, server, state).await;
                    }
                });
            }
        });
        Self {
            address,
            wire,
            _task: task,
        }
    }

    /// The URL of a database, by way of this wire.
    pub(crate) fn url(&self, url: &str) -> String {
        let mut url = url::Url::parse(url).unwrap();
        url.set_port(Some(self.address.port())).unwrap();
        url.into()
    }

    /// From now on the wire is like this.
    pub(crate) fn turn(&self, wire: Wire) {
        self.wire.send_replace(wire);
    }
}

async fn join(client: TcpStream, server: TcpStream, state: watch::Receiver<Wire>) {
    let mut broken = state.clone();
    let ends = (
        socket2::SockRef::from(&client),
        socket2::SockRef::from(&server),
    );
    for end in [&ends.0, &ends.1] {
        end.set_tcp_nodelay(true).unwrap();
        // Whatever ends a connection here ends it with a reset.
        end.set_linger(Some(Duration::ZERO)).unwrap();
    }
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let is_dead_up = |wire| matches!(wire, Wire::Dead);
    let is_dead_down = |wire| matches!(wire, Wire::Dead | Wire::DeadFromServer);
    tokio::select! {
        () = carry(from_client, to_server, state.clone(), is_dead_up) => {}
        () = carry(from_server, to_client, state, is_dead_down) => {}
        // An error means that the proxy has ended.
        _ = broken.wait_for(|wire| *wire == Wire::Broken) => {}
    }
}

/// Carries bytes until one end closes. What came while the wire was dead is lost with its connection.
async fn carry(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut state: watch::Receiver<Wire>,
    is_dead: impl Fn(Wire) -> bool,
) {
    let mut bytes = vec![0; CHUNK];
    let mut has_lost = false;
    loop {
        let Ok(length @ 1..) = from.read(&mut bytes).await else {
            return;
        };
        let wire = *state.borrow_and_update();
        has_lost |= is_dead(wire);
        if has_lost {
            continue;
        }
        if let Wire::Slow(delay) = wire {
            tokio::time::sleep(delay).await;
        }
        if to.write_all(&bytes[..length]).await.is_err() {
            return;
        }
    }
}

/// Where a database listens.
pub(crate) fn address_of(url: &str) -> SocketAddr {
    let url = url::Url::parse(url).unwrap();
    let addresses = url.socket_addrs(|| None).unwrap();
    addresses[0]
}
