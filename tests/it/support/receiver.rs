//! A real webhook receiver: an HTTP server that verifies, records, and behaves as it is told.
//!
//! It runs in threads of its own, so that it neither takes the tests' runtime nor stops with it. What
//! it records is judged in [`super::ledger`].

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use actix_web::dev::ServerHandle;
use actix_web::http::StatusCode;
use actix_web::web::{self, Bytes};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer};
use rollcall::clock::{Clock, SystemClock};
use rollcall::events::Kind;
use rollcall::webhooks::signature::{StandardHeaders, verify_standard, verify_workos};

use super::ledger::{Ledger, Request};

/// How far a signature's time may be off, as the SDKs have it.
const TOLERANCE_SECONDS: u64 = 180;
const WORKERS: usize = 2;
const BODY_BYTES_MAX: usize = 1 << 20;

/// How a request is answered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reply {
    /// The status.
    pub(crate) status: u16,
    /// How long the answer takes.
    pub(crate) after: Duration,
    /// The seconds in its `Retry-After`, if it has one.
    pub(crate) retry_after: Option<u64>,
}

impl Reply {
    /// 200 at once.
    pub(crate) const OK: Self = Self::status(200);

    /// A status at once.
    pub(crate) const fn status(status: u16) -> Self {
        Self {
            status,
            after: Duration::ZERO,
            retry_after: None,
        }
    }

    /// A status at once that asks for a pause of so many seconds.
    pub(crate) const fn wait(status: u16, seconds: u64) -> Self {
        Self {
            status,
            after: Duration::ZERO,
            retry_after: Some(seconds),
        }
    }

    /// 200, later.
    pub(crate) const fn slow(after: Duration) -> Self {
        Self {
            status: 200,
            after,
            retry_after: None,
        }
    }
}

type Behaviour = Arc<dyn Fn(&Request) -> Reply + Send + Sync>;

struct Desk {
    clock: Arc<dyn Clock>,
    secret: Mutex<Option<String>>,
    behaviour: Mutex<Behaviour>,
    ledger: Mutex<Ledger>,
}

/// A receiver; it stops listening when it is dropped.
pub(crate) struct Receiver {
    address: SocketAddr,
    desk: Arc<Desk>,
    running: Option<(ServerHandle, JoinHandle<()>)>,
}

impl Receiver {
    /// Listens on a free port of the loopback interface, answering 200 at once.
    pub(crate) fn start() -> Self {
        Self::start_with(Arc::new(SystemClock))
    }

    /// The same, with a clock of the caller's for the age of signatures.
    pub(crate) fn start_with(clock: Arc<dyn Clock>) -> Self {
        let desk = Arc::new(Desk {
            clock,
            secret: Mutex::new(None),
            behaviour: Mutex::new(Arc::new(|_| Reply::OK)),
            ledger: Mutex::default(),
        });
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let (address, running) = listen(&desk, address);
        Self {
            address,
            desk,
            running: Some(running),
        }
    }

    /// Where webhooks are to be sent.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/webhooks", self.address)
    }

    /// Says with which secret webhooks will be signed. Until then they are put off with 503.
    pub(crate) fn expect_secret(&self, secret: &str) {
        *lock(&self.desk.secret) = Some(secret.to_owned());
    }

    /// Answers from now on as `behaviour` says, for requests whose signatures hold.
    pub(crate) fn behave(&self, behaviour: impl Fn(&Request) -> Reply + Send + Sync + 'static) {
        *lock(&self.desk.behaviour) = Arc::new(behaviour);
    }

    /// What has arrived so far.
    pub(crate) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        lock(&self.desk.ledger)
    }

    /// Refuses connections from now on, and cuts those that are open.
    pub(crate) fn stop(&mut self) {
        if let Some((server, thread)) = self.running.take() {
            // The order is given by the call; the thread ends when it has been carried out.
            drop(server.stop(false));
            thread.join().expect("the receiver does not panic");
        }
    }

    /// Listens again on the same port.
    pub(crate) fn start_again(&mut self) {
        self.stop();
        self.running = Some(listen(&self.desk, self.address).1);
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.stop();
    }
}

fn listen(desk: &Arc<Desk>, address: SocketAddr) -> (SocketAddr, (ServerHandle, JoinHandle<()>)) {
    let data = web::Data::from(Arc::clone(desk));
    let (started, is_started) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        actix_web::rt::System::new().block_on(async move {
            let server = HttpServer::new(move || {
                App::new()
                    .app_data(data.clone())
                    .app_data(web::PayloadConfig::new(BODY_BYTES_MAX))
                    .default_service(web::post().to(receive))
            })
            .workers(WORKERS)
            .keep_alive(Duration::from_mins(1))
            .disable_signals()
            .bind(address)
            .expect("the receiver's port is free");
            let bound = server.addrs()[0];
            let server = server.run();
            started
                .send((bound, server.handle()))
                .expect("somebody waits");
            server.await.expect("the receiver runs");
        });
    });
    let (bound, handle) = is_started.recv().expect("the receiver starts");
    (bound, (handle, thread))
}

async fn receive(request: HttpRequest, body: Bytes, desk: web::Data<Desk>) -> HttpResponse {
    let Some(secret) = lock(&desk.secret).clone() else {
        return HttpResponse::ServiceUnavailable().finish();
    };
    let request = match read(&request, &body, &secret, desk.clock.now_ms()) {
        Ok(request) => request,
        Err(violation) => {
            lock(&desk.ledger).blame(violation);
            return HttpResponse::BadRequest().finish();
        }
    };
    let number = lock(&desk.ledger).arrive(request.clone());
    let behaviour = Arc::clone(&*lock(&desk.behaviour));
    let reply = behaviour(&request);
    if !reply.after.is_zero() {
        tokio::time::sleep(reply.after).await;
    }
    lock(&desk.ledger).answer(number, reply.status);
    let mut answer = HttpResponse::build(StatusCode::from_u16(reply.status).expect("a status"));
    if let Some(seconds) = reply.retry_after {
        answer.insert_header(("Retry-After", seconds.to_string()));
    }
    answer.finish()
}

/// Verifies both signatures and reads what the sender says, or says what is wrong.
fn read(request: &HttpRequest, body: &[u8], secret: &str, now_ms: i64) -> Result<Request, String> {
    let header = |name: &str| {
        let value = request.headers().get(name);
        value
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
            .to_owned()
    };
    let body = std::str::from_utf8(body).or(Err("a body is not UTF-8".to_owned()))?;
    let replay = header("rollcall-replay");
    // What is sent beside the log has no place in it.
    let is_beside =
        is_beside(body) || ["test", "snapshot", "current-state"].contains(&replay.as_str());
    let event_id = header("webhook-id");
    let signed = header("workos-signature");
    verify_workos(&signed, secret, body, now_ms, TOLERANCE_SECONDS * 1_000)
        .map_err(|refusal| format!("WorkOS-Signature of {event_id}: {refusal}"))?;
    let standard = StandardHeaders {
        id: &event_id,
        timestamp: &header("webhook-timestamp"),
        signature: &header("webhook-signature"),
    };
    verify_standard(standard, secret, body, now_ms / 1_000, TOLERANCE_SECONDS)
        .map_err(|refusal| format!("webhook-signature of {event_id}: {refusal}"))?;
    let number = |name: &str| {
        let text = header(name);
        let number = text.parse::<i64>();
        number.or(Err(format!("{name} of {event_id} is {text:?}")))
    };
    let place = |name: &str| match header(name) {
        absent if is_beside && absent.is_empty() => Ok(0),
        unfit if is_beside => Err(format!("{name} of {event_id} is {unfit:?}")),
        _ => number(name),
    };
    Ok(Request {
        directory: header("rollcall-directory"),
        is_beside,
        sequence: place("rollcall-sequence")?,
        previous: place("rollcall-previous")?,
        after: header("rollcall-after"),
        attempt: number("rollcall-attempt")?,
        generation: place("rollcall-generation").or_else(|_| number("rollcall-generation"))?,
        headers: (request.headers().iter())
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap_or("").to_owned()))
            .collect(),
        replay,
        event_id,
        signed,
        body: body.into(),
        arrived: Instant::now(),
        answered: None,
    })
}

/// Whether an event has no place in its directory's sequence.
fn is_beside(body: &str) -> bool {
    let body: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
    let kind = body["event"].as_str().and_then(Kind::parse);
    kind.is_some_and(|kind| !kind.is_sequenced())
}

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
