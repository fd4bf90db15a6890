//! The client for servers that the person at the keyboard names: a remote Rollcall for the command
//! line, a SCIM server for the simulated identity provider. No address is off limits to it.

use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use reqwest::{Client, ClientBuilder, Method, RequestBuilder, redirect};

use super::failure::Failure;
use super::{SetupError, USER_AGENT};

const TOTAL_LIMIT: Duration = Duration::from_mins(1);
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
const IDLE_CONNECTIONS_PER_HOST_MAX: usize = 64;
/// No answer of an API is longer; something else answers there.
const RESPONSE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// The request cannot be sent as it is.
    #[error("the request cannot be sent: {0}")]
    Request(String),
    /// Nothing, or not a whole response, came back.
    #[error("{url} does not answer: {failure}")]
    NoAnswer {
        /// Scheme, host and port of the server.
        url: String,
        /// What went wrong.
        failure: Failure,
    },
    /// The response is longer than any we expect.
    #[error("the answer is longer than {RESPONSE_BYTES_MAX} bytes")]
    TooLong,
    /// The response's body is not text.
    #[error("the answer is not UTF-8")]
    NotText,
}

/// What a server answered, whatever its status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiResponse {
    /// The status code.
    pub status: u16,
    /// The headers, names in lower case; values that are not text are left out.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

impl ApiResponse {
    /// The first header of this name, in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }
}

/// Calls an HTTP API, keeping connections open between requests.
#[derive(Clone, Debug)]
pub struct ApiClient {
    usual: Client,
    /// For this machine: a proxy in the environment means the world outside.
    direct: Client,
}

impl ApiClient {
    /// Sets up the client; cheap to clone afterwards.
    pub fn new() -> Result<Self, SetupError> {
        let build = |builder: ClientBuilder| {
            builder
                .user_agent(USER_AGENT)
                .redirect(redirect::Policy::none())
                .connect_timeout(CONNECT_LIMIT)
                .timeout(TOTAL_LIMIT)
                .tcp_nodelay(true)
                .pool_max_idle_per_host(IDLE_CONNECTIONS_PER_HOST_MAX)
                .build()
                .map_err(|error| SetupError::new(&error))
        };
        let usual = build(ClientBuilder::new())?;
        let direct = build(ClientBuilder::new().no_proxy())?;
        Ok(Self { usual, direct })
    }

    /// Sends one request and reads the whole answer. `content_type` is sent with a body only.
    pub async fn send(
        &self,
        method: &str,
        url: &str,
        bearer: Option<&str>,
        content_type: &str,
        body: Option<String>,
        extra_headers: &[(&str, &str)],
    ) -> Result<ApiResponse, ApiError> {
        let method = Method::from_bytes(method.as_bytes()).or(Err(ApiError::Request(format!(
            "{method:?} is not a method"
        ))))?;
        let url = url::Url::parse(url)
            .map_err(|error| ApiError::Request(format!("{url:?} is not a URL: {error}")))?;
        let no_answer = |failure| ApiError::NoAnswer {
            url: server_of(&url),
            failure,
        };
        let client = if is_this_machine(&url) {
            &self.direct
        } else {
            &self.usual
        };
        let mut request = client.request(method, url.clone());
        if let Some(bearer) = bearer {
            request = request.header(reqwest::header::AUTHORIZATION, authorization(bearer)?);
        }
        if let Some(body) = body {
            request = with_header(request, CONTENT_TYPE.as_str(), content_type)?.body(body);
        }
        for (name, value) in extra_headers {
            request = with_header(request, name, value)?;
        }
        let response = request
            .send()
            .await
            .map_err(|error| no_answer(Failure::of(&error)))?;
        let status = response.status().as_u16();
        let headers = response
            .headers()
            .iter()
            .filter_map(|(name, value)| {
                Some((
                    String::from(name.as_str()),
                    String::from(value.to_str().ok()?),
                ))
            })
            .collect();
        let body = read(response).await.map_err(|error| match error {
            ReadError::Broken(failure) => no_answer(failure),
            ReadError::TooLong => ApiError::TooLong,
            ReadError::NotText => ApiError::NotText,
        })?;
        Ok(ApiResponse {
            status,
            headers,
            body,
        })
    }
}

enum ReadError {
    Broken(Failure),
    TooLong,
    NotText,
}

async fn read(mut response: reqwest::Response) -> Result<String, ReadError> {
    let mut body = Vec::new();
    while let Some(chunk) = response
        .chunk()
        .await
        .map_err(|error| ReadError::Broken(Failure::of(&error)))?
    {
        if body.len() + chunk.len() > RESPONSE_BYTES_MAX {
            return Err(ReadError::TooLong);
        }
        body.extend_from_slice(&chunk);
    }
    String::from_utf8(body).or(Err(ReadError::NotText))
}

fn authorization(bearer: &str) -> Result<HeaderValue, ApiError> {
    // The message must not quote the token.
    let mut value = HeaderValue::try_from(format!("Bearer {}", bearer.trim())).or(Err(
        ApiError::Request(String::from("the token contains characters no token has")),
    ))?;
    value.set_sensitive(true);
    Ok(value)
}

fn with_header(
    request: RequestBuilder,
    name: &str,
    value: &str,
) -> Result<RequestBuilder, ApiError> {
    let parsed = (HeaderName::try_from(name), HeaderValue::try_from(value));
    let (Ok(header), Ok(value)) = parsed else {
        let message = format!("the header {name:?} is not valid");
        return Err(ApiError::Request(message));
    };
    Ok(request.header(header, value))
}

fn is_this_machine(url: &url::Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

fn server_of(url: &url::Url) -> String {
    url.origin().ascii_serialization()
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;
    use crate::outbound::FailureKind;

    async fn answer_once(listener: TcpListener) -> String {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !String::from_utf8_lossy(&request).ends_with("{\"a\":1}") {
            assert_ne!(stream.read_buf(&mut request).await.unwrap(), 0);
        }
        let answer = "HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 2\r\n\r\nhi";
        stream.write_all(answer.as_bytes()).await.unwrap();
        String::from_utf8(request).unwrap()
    }

    #[tokio::test]
    async fn a_request_goes_out_as_asked_and_a_redirect_is_an_answer() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/scim/v2/x?a=b", listener.local_addr().unwrap());
        let client = ApiClient::new().unwrap();
        let body = Some(String::from(r#"{"a":1}"#));
        let headers = [("Idempotency-Key", "k1")];
        let sent = client.send(
            "PATCH",
            &url,
            Some("sk_x"),
            "application/scim+json",
            body,
            &headers,
        );
        let (request, response) = tokio::join!(answer_once(listener), sent);
        let response = response.unwrap();
        assert_eq!((response.status, response.body.as_str()), (302, "hi"));
        assert_eq!(response.header("Location"), Some("/x"));
        let request = request.to_lowercase();
        assert!(
            request.starts_with("patch /scim/v2/x?a=b http/1.1\r\n"),
            "{request}"
        );
        for line in [
            "authorization: bearer sk_x",
            "content-type: application/scim+json",
            "idempotency-key: k1",
        ] {
            assert!(request.contains(line), "{line} is missing in {request}");
        }
    }

    #[tokio::test]
    async fn what_cannot_be_sent_and_who_does_not_answer_are_told_apart() {
        let client = ApiClient::new().unwrap();
        let refused = client.send("GET", "not a url", None, "", None, &[]).await;
        assert!(matches!(refused, Err(ApiError::Request(_))));
        let bad_token = client
            .send("GET", "http://localhost/", Some("a\nb"), "", None, &[])
            .await;
        let message = bad_token.unwrap_err().to_string();
        assert!(!message.contains("a\nb"), "{message}");

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/secret-path", listener.local_addr().unwrap());
        drop(listener);
        let error = client
            .send("GET", &url, None, "", None, &[])
            .await
            .unwrap_err();
        assert!(!error.to_string().contains("secret-path"), "{error}");
        let ApiError::NoAnswer { failure, .. } = error else {
            panic!("{error}")
        };
        assert_eq!(failure.kind, FailureKind::Connect);
    }
}
