//! One request over HTTP: what came back, or whether the body had left when nothing did.

mod kept_alive;

use std::fs;
use std::io::{self, BufRead, BufReader, Read};
use std::time::{Duration, SystemTime};

use finegrain_sdk::{Error, Result};
use ureq::http::{HeaderMap, Request, request};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, BodyReader, Proxy, SendBody};

use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{ConnectProxyConnector, Connector, RustlsConnector};

use crate::key::Key;
use crate::server::Server;
use kept_alive::KeptAlive;

/// To find a host's address, and to open a connection to it.
const CONNECT: Duration = Duration::from_secs(10);
/// For all of a request beyond the wait for its answer.
const BEYOND: Duration = Duration::from_mins(1);
/// For the reply to what is only looked up.
const LOOKED_UP: Duration = Duration::from_secs(30);
/// For all of a long reply: a batch of the largest size has some hundred megabytes.
const STREAMED: Duration = Duration::from_hours(1);
/// The largest response; an answer of 128 000 tokens has about a megabyte.
const LARGEST: u64 = 64 << 20;

/// A way to one server.
pub(crate) struct Transport {
    agent: Agent,
    url: String,
    headers: HeaderMap,
    key: Key,
}

/// What came of a request.
#[derive(Debug)]
pub(crate) enum Received {
    /// A reply, whole.
    Reply {
        /// The HTTP status.
        status: u16,
        /// The headers.
        headers: HeaderMap,
        /// The body, without the key where the server has repeated it.
        body: String,
        /// When it was there.
        at: SystemTime,
    },
    /// No reply, or the beginning of one.
    Lost {
        /// Whether the server may have worked and be paid: the body, or a part of it, had left.
        paid: bool,
        /// What was seen.
        seen: String,
    },
}

impl Transport {
    /// A way to a server; reads the key.
    ///
    /// # Errors
    /// There is no key, or the file of certificates has none.
    pub(crate) fn new(server: &Server) -> Result<Self> {
        let key = server.key.read()?;
        let mut headers = HeaderMap::new();
        headers.insert("content-type", header("application/json")?);
        for &(name, value) in server.api.headers() {
            headers.insert(name, header(value)?);
        }
        let (name, before) = server.api.key_header();
        if let Some(value) = key.header(before)? {
            headers.insert(name, value);
        }
        let mut config = Agent::config_builder()
            // The body of an error says what is wrong.
            .http_status_as_error(false)
            // A redirect would take `x-api-key` along, and turn POST into GET.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .max_idle_connections(server.options.concurrency as usize)
            .max_idle_connections_per_host(server.options.concurrency as usize)
            .timeout_resolve(Some(CONNECT))
            .timeout_connect(Some(CONNECT))
            .timeout_recv_response(Some(server.timeout()))
            .timeout_global(Some(server.timeout() + BEYOND))
            .user_agent(concat!("finegrain/", env!("CARGO_PKG_VERSION")));
        if server.address.is_loopback() {
            config = config.proxy(None);
        } else {
            config = config.proxy(Proxy::try_from_env());
        }
        if let Some(path) = &server.options.ca_file {
            let roots = RootCerts::new_with_certs(&certificates(path)?);
            config = config.tls_config(TlsConfig::builder().root_certs(roots).build());
        }
        Ok(Self {
            agent: Agent::with_parts(
                config.build(),
                // As the library's own chain, with sockets that are kept alive.
                ().chain(ConnectProxyConnector::default())
                    .chain(KeptAlive)
                    .chain(RustlsConnector::default()),
                DefaultResolver::default(),
            ),
            url: server.api.url(&server.address),
            headers,
            key,
        })
    }

    /// Where requests go.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Asks the question in `body` and waits for the reply.
    pub(crate) fn post(&self, body: &str) -> Received {
        self.send(&self.url, body, None)
    }

    /// Sends a body to an address that may be too long for the time that a question has, and waits for the reply.
    pub(crate) fn post_long(&self, url: &str, body: &str) -> Received {
        self.send(url, body, Some(STREAMED))
    }

    /// Sends a body and waits for the reply, within the time of a question or another one.
    fn send(&self, url: &str, body: &str, within: Option<Duration>) -> Received {
        let mut watched = Watched {
            rest: body.as_bytes(),
            left: false,
        };
        let request = self.request(Request::post(url).header("content-length", body.len()));
        let sent = request
            .body(SendBody::from_reader(&mut watched))
            .map_err(ureq::Error::from)
            .and_then(|request| match within {
                None => self.agent.run(request),
                Some(within) => {
                    let request = self.agent.configure_request(request);
                    self.agent.run(request.timeout_global(Some(within)).build())
                }
            });
        self.received(sent, watched.left)
    }

    /// Looks something up that is soon there, or not: nothing waits long for it, and nothing is paid.
    pub(crate) fn get(&self, url: &str) -> Received {
        let request = self.request(Request::get(url)).body(());
        let sent = request.map_err(ureq::Error::from).and_then(|request| {
            let request = self
                .agent
                .configure_request(request)
                .timeout_recv_response(Some(LOOKED_UP))
                .timeout_global(Some(LOOKED_UP + CONNECT))
                .build();
            self.agent.run(request)
        });
        self.received(sent, false)
    }

    /// A long reply, line by line, or what came instead of one.
    pub(crate) fn lines(&self, url: &str) -> std::result::Result<Lines<'_>, Box<Received>> {
        let request = self.request(Request::get(url)).body(());
        let sent = request.map_err(ureq::Error::from).and_then(|request| {
            let request = self
                .agent
                .configure_request(request)
                .timeout_global(Some(STREAMED))
                .build();
            self.agent.run(request)
        });
        match sent {
            Ok(response) if response.status() == 200 => {
                let body = response.into_body().into_with_config().limit(u64::MAX);
                Ok(Lines {
                    reader: BufReader::new(body.reader()),
                    key: &self.key,
                })
            }
            other => Err(Box::new(self.received(other, false))),
        }
    }

    /// A request with the headers of every request.
    fn request(&self, mut request: request::Builder) -> request::Builder {
        if let Some(headers) = request.headers_mut() {
            headers.extend(self.headers.clone());
        }
        request
    }

    /// The reply to a request, or that there is none; `left` says whether a body, or a part of it, had left.
    fn received(
        &self,
        sent: std::result::Result<ureq::http::Response<ureq::Body>, ureq::Error>,
        left: bool,
    ) -> Received {
        let lost = |paid, seen: String| Received::Lost {
            paid,
            seen: self.key.blot(&seen).into_owned(),
        };
        let mut response = match sent {
            Ok(response) => response,
            Err(error) => return lost(left, error.to_string()),
        };
        let status = response.status().as_u16();
        let read = response
            .body_mut()
            .with_config()
            .limit(LARGEST)
            .read_to_vec();
        let text = match read {
            Ok(bytes) => String::from_utf8(bytes)
                .map_err(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()),
            // An error's status says enough.
            Err(error) if status != 200 => Ok(format!("(the body is cut: {error})")),
            Err(error) => return lost(true, format!("the answer was cut: {error}")),
        };
        let text = match text {
            Ok(text) => text,
            Err(text) if status != 200 => text,
            Err(_) => return lost(true, "the answer is no UTF-8".to_owned()),
        };
        let (mut parts, _) = response.into_parts();
        for value in parts.headers.values_mut() {
            self.key.blot_header(value);
        }
        Received::Reply {
            status,
            headers: parts.headers,
            body: self.key.blot(&text).into_owned(),
            at: SystemTime::now(),
        }
    }

    /// Ends all requests under way; nothing can be sent after it.
    pub(crate) fn shutdown(&self) {
        self.agent.clone().shutdown();
    }
}

/// A reply that is read line by line, for it may be larger than the memory.
pub(crate) struct Lines<'a> {
    reader: BufReader<BodyReader<'static>>,
    key: &'a Key,
}

impl Lines<'_> {
    /// The next line, without the key where the server has repeated it; `None` at the end.
    ///
    /// # Errors
    /// The reply was cut, or a line is longer than any answer or no UTF-8.
    pub(crate) fn next(&mut self) -> io::Result<Option<String>> {
        let mut bytes = Vec::new();
        let length = (&mut self.reader)
            .take(LARGEST)
            .read_until(b'\n', &mut bytes)?;
        if length == 0 {
            return Ok(None);
        }
        if length as u64 == LARGEST {
            return Err(io::Error::other("a line is longer than any answer"));
        }
        let line = String::from_utf8(bytes).map_err(io::Error::other)?;
        Ok(Some(self.key.blot(line.trim_end()).into_owned()))
    }
}

/// A body that knows whether a byte of it was taken: that is after the connection stands and the head is written.
struct Watched<'a> {
    rest: &'a [u8],
    left: bool,
}

impl Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.left = true;
        self.rest.read(buffer)
    }
}

fn header(value: &'static str) -> Result<ureq::http::HeaderValue> {
    value
        .parse()
        .map_err(|_| Error::plugin(format!("{value:?} is no header")))
}

/// The certificates of a PEM file.
fn certificates(path: &str) -> Result<Vec<Certificate<'static>>> {
    let refuse = |what: String| Error::options(format!("ca_file: {path}: {what}"));
    let bytes = fs::read(path).map_err(|error| refuse(error.to_string()))?;
    let certificates: Vec<_> = parse_pem(&bytes)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(Ok(certificate)),
            Ok(_) => None,
            Err(error) => Some(Err(refuse(error.to_string()))),
        })
        .collect::<Result<_>>()?;
    if certificates.is_empty() {
        return Err(refuse("no certificate in it".to_owned()));
    }
    Ok(certificates)
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Instant;

    use super::*;
    use crate::options::{AnthropicOptions, ServerOptions};
    use crate::testing::{Act, TestServer};

    fn transport(url: &str) -> Transport {
        let options = ServerOptions {
            model: "m".to_owned(),
            base_url: url.to_owned(),
            ..ServerOptions::default()
        };
        let server = Server::anthropic("test", &options, &AnthropicOptions::default());
        Transport::new(&server.unwrap()).unwrap()
    }

    fn is_paid(received: &Received) -> bool {
        match received {
            Received::Lost { paid, .. } => *paid,
            reply @ Received::Reply { .. } => panic!("{reply:?}"),
        }
    }

    #[test]
    fn what_never_left_is_free_and_what_left_may_be_paid() {
        let server = TestServer::start(|_| Act::Reset).unwrap();
        assert!(is_paid(&transport(&server.url()).post("{}")));
        // A port that nobody listens on any more.
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        assert!(!is_paid(
            &transport(&format!("http://127.0.0.1:{port}")).post("{}")
        ));
        // A server that speaks no TLS.
        let tls = server.url().replace("http://", "https://");
        assert!(!is_paid(&transport(&tls).post("{}")));
        // A name that no host has.
        assert!(!is_paid(
            &transport("http://no-such-host.invalid").post("{}")
        ));
    }

    #[test]
    fn the_body_of_an_error_is_read() {
        let server = TestServer::start(|_| Act::reply(529, "overloaded")).unwrap();
        let received = transport(&server.url()).post("{}");
        assert!(
            matches!(received, Received::Reply { status: 529, body, .. } if body == "overloaded")
        );
    }

    #[test]
    fn a_file_of_certificates_without_any_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("roots.pem");
        let path = path.to_str().unwrap();
        assert!(
            certificates(path)
                .unwrap_err()
                .message
                .contains("roots.pem")
        );
        fs::write(path, "no certificate").unwrap();
        let error = certificates(path).unwrap_err();
        assert!(error.message.contains("no certificate in it"), "{error}");
    }

    #[test]
    fn a_request_that_waits_is_ended_by_shutdown() {
        let server = TestServer::start(|_| Act::Stall(Duration::from_mins(1))).unwrap();
        let transport = transport(&server.url());
        let start = Instant::now();
        thread::scope(|scope| {
            let waiting = scope.spawn(|| transport.post("{}"));
            while server.count() == 0 {
                thread::sleep(Duration::from_millis(1));
            }
            transport.shutdown();
            assert!(is_paid(&waiting.join().unwrap()));
        });
        assert!(start.elapsed() < Duration::from_secs(10));
    }
}
