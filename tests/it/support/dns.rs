//! A name server of the tests' own, on one port of the loopback interface over UDP and TCP, that says what
//! it is told to say about each name. Nothing may be remembered: all its answers live for 0 seconds.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinSet;

const HEADER_BYTES: usize = 12;
/// Longer answers are for TCP (what common resolvers say they take).
const DATAGRAM_BYTES_MAX: usize = 1_232;
const A: u16 = 1;
const CNAME: u16 = 5;
const AAAA: u16 = 28;
/// A standard answer to a question that asked for recursion.
const ANSWER: u16 = 0x8180;
const TRUNCATED: u16 = 0x0200;
const NO_SUCH_NAME: u16 = 3;

/// What is said about a name.
#[derive(Clone, Debug)]
pub(crate) enum Says {
    /// These addresses, to whom asks for their kind.
    Addresses(Vec<IpAddr>),
    /// It is another name for this one, and the addresses of that one.
    Alias(&'static str, Vec<IpAddr>),
    /// There is no such name.
    NoSuchName,
    /// Nothing.
    Silence,
    /// Something that is no answer.
    Garbage,
}

impl Says {
    /// These addresses.
    pub(crate) fn addresses(texts: &[&str]) -> Self {
        Self::Addresses(texts.iter().map(|text| text.parse().unwrap()).collect())
    }
}

/// What to say, given how often the name was asked for before.
type Script = Arc<dyn Fn(usize) -> Says + Send + Sync>;

#[derive(Default)]
struct Desk {
    scripts: Mutex<HashMap<&'static str, (usize, Script)>>,
}

/// A name server; it ends when it is dropped.
pub(crate) struct Dns {
    address: SocketAddr,
    desk: Arc<Desk>,
    _tasks: JoinSet<()>,
}

impl Dns {
    /// Starts one that knows no name.
    pub(crate) async fn start() -> Self {
        let (listener, socket) = loop {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            // The port may be taken over UDP.
            if let Ok(socket) = UdpSocket::bind(listener.local_addr().unwrap()).await {
                break (listener, socket);
            }
        };
        let address = socket.local_addr().unwrap();
        let desk = Arc::new(Desk::default());
        let mut tasks = JoinSet::new();
        tasks.spawn(serve_datagrams(socket, Arc::clone(&desk)));
        tasks.spawn(serve_streams(listener, Arc::clone(&desk)));
        Self {
            address,
            desk,
            _tasks: tasks,
        }
    }

    /// Where it is asked.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Says this about a name from now on.
    pub(crate) fn say(&self, name: &'static str, says: Says) {
        self.script(name, move |_| says.clone());
    }

    /// Says about a name what `script` says, which is told how often it was asked before.
    pub(crate) fn script(
        &self,
        name: &'static str,
        script: impl Fn(usize) -> Says + Send + Sync + 'static,
    ) {
        let script: Script = Arc::new(script);
        self.desk.lock().insert(name, (0, script));
    }
}

impl Desk {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<&'static str, (usize, Script)>> {
        self.scripts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The answer to a query, if it gets one.
    fn answer(&self, query: &[u8]) -> Option<Vec<u8>> {
        let (name, end) = read_name(query, HEADER_BYTES)?;
        let kind = number(query, end)?;
        let question = query.get(HEADER_BYTES..end + 4)?;
        let id = number(query, 0)?;
        let says = {
            let mut scripts = self.lock();
            match scripts.get_mut(name.as_str()) {
                Some((asked, script)) => {
                    *asked += 1;
                    script(*asked - 1)
                }
                None => Says::NoSuchName,
            }
        };
        match says {
            Says::Silence => None,
            Says::Garbage => Some(vec![0xff; 40]),
            Says::NoSuchName => Some(message(id, ANSWER | NO_SUCH_NAME, question, &[])),
            Says::Addresses(addresses) => {
                let records = address_records(&[0xc0, 0x0c], kind, &addresses);
                Some(message(id, ANSWER, question, &records))
            }
            Says::Alias(other, addresses) => {
                let other = written_name(other);
                let mut records = vec![record(&[0xc0, 0x0c], CNAME, &other)];
                records.extend(address_records(&other, kind, &addresses));
                Some(message(id, ANSWER, question, &records))
            }
        }
    }
}

async fn serve_datagrams(socket: UdpSocket, desk: Arc<Desk>) {
    let mut query = [0; 4_096];
    loop {
        let Ok((length, from)) = socket.recv_from(&mut query).await else {
            continue;
        };
        let Some(mut answer) = desk.answer(&query[..length]) else {
            continue;
        };
        if answer.len() > DATAGRAM_BYTES_MAX {
            let (_, end) = read_name(&answer, HEADER_BYTES).unwrap();
            let question = answer[HEADER_BYTES..end + 4].to_vec();
            let id = number(&answer, 0).unwrap();
            answer = message(id, ANSWER | TRUNCATED, &question, &[]);
        }
        drop(socket.send_to(&answer, from).await);
    }
}

async fn serve_streams(listener: TcpListener, desk: Arc<Desk>) {
    let mut open = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        open.spawn(serve_stream(stream, Arc::clone(&desk)));
    }
}

async fn serve_stream(mut stream: TcpStream, desk: Arc<Desk>) {
    while let Ok(length) = stream.read_u16().await {
        let mut query = vec![0; usize::from(length)];
        if stream.read_exact(&mut query).await.is_err() {
            return;
        }
        let Some(answer) = desk.answer(&query) else {
            continue;
        };
        let mut framed = u16::try_from(answer.len()).unwrap().to_be_bytes().to_vec();
        framed.extend(answer);
        if stream.write_all(&framed).await.is_err() {
            return;
        }
    }
}

fn number(message: &[u8], at: usize) -> Option<u16> {
    let bytes = message.get(at..at + 2)?;
    Some(u16::from_be_bytes(bytes.try_into().ok()?))
}

/// A name of a question, without a dot at its end, and where it ends.
fn read_name(message: &[u8], mut at: usize) -> Option<(String, usize)> {
    let mut labels = Vec::new();
    loop {
        let length = usize::from(*message.get(at)?);
        at += 1;
        if length == 0 {
            return Some((labels.join("."), at));
        }
        let label = message.get(at..at + length)?;
        labels.push(String::from_utf8_lossy(label).to_lowercase());
        at += length;
    }
}

fn written_name(name: &str) -> Vec<u8> {
    let mut written = Vec::new();
    for label in name.split('.') {
        written.push(u8::try_from(label.len()).unwrap());
        written.extend(label.as_bytes());
    }
    written.push(0);
    written
}

fn address_records(name: &[u8], kind: u16, addresses: &[IpAddr]) -> Vec<Vec<u8>> {
    let fitting = addresses.iter().filter_map(|address| match address {
        IpAddr::V4(address) if kind == A => Some(record(name, A, &address.octets())),
        IpAddr::V6(address) if kind == AAAA => Some(record(name, AAAA, &address.octets())),
        IpAddr::V4(_) | IpAddr::V6(_) => None,
    });
    fitting.collect()
}

fn record(name: &[u8], kind: u16, data: &[u8]) -> Vec<u8> {
    let mut record = name.to_vec();
    record.extend(kind.to_be_bytes());
    // The internet's class; 0 seconds to live.
    record.extend([0, 1, 0, 0, 0, 0]);
    record.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
    record.extend(data);
    record
}

fn message(id: u16, flags: u16, question: &[u8], records: &[Vec<u8>]) -> Vec<u8> {
    let count = u16::try_from(records.len()).unwrap();
    let mut message = Vec::new();
    for number in [id, flags, 1, count, 0, 0] {
        message.extend(number.to_be_bytes());
    }
    message.extend(question);
    message.extend(records.concat());
    message
}
