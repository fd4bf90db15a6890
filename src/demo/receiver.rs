//! The demo's own webhook receiver: a real HTTP server on the loopback interface.
//!
//! It verifies both signatures of every request before it looks at anything else, hands the
//! request to the [`Checker`], tells a listener about first arrivals, and answers 200. What cannot
//! be verified is answered 400 and written down as a violation.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use actix_web::{
    App, HttpRequest, HttpResponse, HttpServer,
    dev::ServerHandle,
    http::header::HeaderMap,
    web::{self, Bytes},
};
use tokio_util::task::TaskTracker;

use super::checker::{Arrival, Checker, Delivery};
use crate::{
    clock::{Clock as _, SystemClock},
    webhooks::signature::{StandardHeaders, verify_standard, verify_workos},
};

/// How far a signature's time may be off, as the SDKs have it.
const TOLERANCE_SECONDS: u64 = 180;

type Listener = Box<dyn Fn(&Arrival) + Send + Sync>;

/// A receiver that is listening.
pub(super) struct Receiver {
    address: SocketAddr,
    desk: Arc<Desk>,
    server: ServerHandle,
    tasks: TaskTracker,
}

struct Desk {
    secret: Mutex<Option<String>>,
    checker: Mutex<Checker>,
    listener: Listener,
}

impl Receiver {
    /// Starts listening on a free port of the loopback interface.
    pub(super) fn start(listener: Listener) -> std::io::Result<Self> {
        let desk = Arc::new(Desk {
            secret: Mutex::new(None),
            checker: Mutex::new(Checker::default()),
            listener,
        });
        let data = web::Data::from(Arc::clone(&desk));
        let server = HttpServer::new(move || {
            App::new()
                .app_data(data.clone())
                .default_service(web::post().to(receive))
        })
        .workers(1)
        .disable_signals()
        .bind(("127.0.0.1", 0))?;
        let address = server
            .addrs()
            .first()
            .copied()
            .ok_or(std::io::ErrorKind::AddrNotAvailable)?;
        let server = server.run();
        let handle = server.handle();
        let tasks = TaskTracker::new();
        tasks.spawn(server);
        tasks.close();
        Ok(Self {
            address,
            desk,
            server: handle,
            tasks,
        })
    }

    /// Where webhooks are to be sent.
    pub(super) fn url(&self) -> String {
        format!("http://{}/webhooks", self.address)
    }

    /// Says with which secret webhooks will be signed. Until then they are put off with 503.
    pub(super) fn expect_secret(&self, secret: String) {
        *lock(&self.desk.secret) = Some(secret);
    }

    /// What has arrived so far.
    pub(super) fn checker(&self) -> MutexGuard<'_, Checker> {
        lock(&self.desk.checker)
    }

    /// Stops listening.
    pub(super) async fn stop(self) {
        self.server.stop(false).await;
        self.tasks.wait().await;
    }
}

async fn receive(request: HttpRequest, body: Bytes, desk: web::Data<Desk>) -> HttpResponse {
    let at = Instant::now();
    let Some(secret) = lock(&desk.secret).clone() else {
        return HttpResponse::ServiceUnavailable().finish();
    };
    let headers = request.headers();
    let Ok(body) = std::str::from_utf8(&body) else {
        lock(&desk.checker).blame("a body was not UTF-8".to_owned());
        return HttpResponse::BadRequest().finish();
    };
    if let Err(violation) = verify(headers, &secret, body, SystemClock.now_ms()) {
        lock(&desk.checker).blame(violation);
        return HttpResponse::BadRequest().finish();
    }
    let delivery = Delivery {
        id: header(headers, "webhook-id"),
        directory: header(headers, "rollcall-directory"),
        sequence: header(headers, "rollcall-sequence"),
        previous: header(headers, "rollcall-previous"),
        after: header(headers, "rollcall-after"),
        body,
        at,
    };
    let arrival = {
        let mut checker = lock(&desk.checker);
        checker.signatures += 2;
        checker.accept(&delivery)
    };
    if let Some(arrival) = arrival {
        (desk.listener)(&arrival);
    }
    HttpResponse::Ok().finish()
}

/// Verifies both signatures of a request, or says which one does not hold.
fn verify(headers: &HeaderMap, secret: &str, body: &str, now_ms: i64) -> Result<(), String> {
    let id = header(headers, "webhook-id");
    let workos = header(headers, "workos-signature");
    verify_workos(workos, secret, body, now_ms, TOLERANCE_SECONDS * 1_000)
        .map_err(|refusal| format!("WorkOS-Signature of {id}: {refusal}"))?;
    let standard = StandardHeaders {
        id,
        timestamp: header(headers, "webhook-timestamp"),
        signature: header(headers, "webhook-signature"),
    };
    verify_standard(standard, secret, body, now_ms / 1_000, TOLERANCE_SECONDS)
        .map_err(|refusal| format!("webhook-signature of {id}: {refusal}"))
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::{HeaderName, HeaderValue};

    use super::*;
    use crate::webhooks::signature;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const NOW_MS: i64 = 1_700_000_000_000;

    fn signed(body: &str) -> HeaderMap {
        let standard = signature::standard(SECRET, "event_1", NOW_MS / 1_000, body).unwrap();
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("webhook-id", "event_1".to_owned()),
            ("webhook-timestamp", (NOW_MS / 1_000).to_string()),
            ("webhook-signature", standard),
            ("workos-signature", signature::workos(SECRET, NOW_MS, body)),
        ] {
            let value = HeaderValue::from_str(&value).unwrap();
            headers.insert(HeaderName::from_static(name), value);
        }
        headers
    }

    #[test]
    fn both_signatures_must_hold() {
        let headers = signed("{}");
        assert_eq!(verify(&headers, SECRET, "{}", NOW_MS), Ok(()));
        assert!(
            verify(&headers, SECRET, "{ }", NOW_MS).is_err(),
            "another body"
        );
        assert!(
            verify(&headers, SECRET, "{}", NOW_MS + 600_000).is_err(),
            "too old"
        );
        for name in ["workos-signature", "webhook-signature"] {
            let mut headers = signed("{}");
            let other = signed("[]");
            let value = other.get(name).unwrap().clone();
            headers.insert(HeaderName::from_static(name), value);
            let refused = verify(&headers, SECRET, "{}", NOW_MS).unwrap_err();
            assert!(refused.to_ascii_lowercase().starts_with(name), "{refused}");
        }
    }
}
