//! The server: a thread a connection, and counts of what it has seen.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use finegrain_sdk::serde_json::{self, Value};

use super::act::Act;
use super::http::{self, Request};

/// A request, for a behaviour to look at.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The method.
    pub method: String,
    /// The path.
    pub path: String,
    /// The headers, their names in lower case.
    pub headers: BTreeMap<String, String>,
    /// The body as JSON; null where it is none.
    pub body: Value,
    /// How many requests there were before.
    pub number: usize,
    /// How many requests with the same body there were before.
    pub again: usize,
}

impl Seen {
    /// The text of the last message.
    pub fn text(&self) -> &str {
        self.body["messages"]
            .as_array()
            .and_then(|messages| messages.last())
            .and_then(|message| message["content"].as_str())
            .unwrap_or_default()
    }
}

type Behaviour = dyn Fn(&Seen) -> Act + Send + Sync;

/// A server that does what a behaviour says. It ends when it is dropped; connections end with their clients.
pub struct TestServer {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    behaviour: Box<Behaviour>,
    /// Whether the behaviour sees every request, and not those alone that ask a question.
    all: bool,
    ended: AtomicBool,
    under_way: AtomicUsize,
    most_under_way: AtomicUsize,
    seen: Mutex<Counts>,
}

#[derive(Default)]
struct Counts {
    requests: Vec<Seen>,
    by_body: HashMap<Vec<u8>, usize>,
}

impl TestServer {
    /// Starts a server on a free port of loopback. The behaviour sees, and the counts have, the requests that ask a question;
    /// whatever is looked up (GET) is not there, as on servers that answer nothing else.
    ///
    /// # Errors
    /// There is no port.
    pub fn start(behaviour: impl Fn(&Seen) -> Act + Send + Sync + 'static) -> io::Result<Self> {
        Self::with(false, Box::new(behaviour))
    }

    /// The same with a behaviour that sees all requests.
    ///
    /// # Errors
    /// There is no port.
    pub fn start_for_all(
        behaviour: impl Fn(&Seen) -> Act + Send + Sync + 'static,
    ) -> io::Result<Self> {
        Self::with(true, Box::new(behaviour))
    }

    fn with(all: bool, behaviour: Box<Behaviour>) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            behaviour,
            all,
            ended: AtomicBool::new(false),
            under_way: AtomicUsize::new(0),
            most_under_way: AtomicUsize::new(0),
            seen: Mutex::default(),
        });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if accepting.ended.load(Ordering::Relaxed) {
                    break;
                }
                let Ok(stream) = stream else { continue };
                let shared = Arc::clone(&accepting);
                // A connection that breaks is the client's to notice.
                thread::spawn(move || shared.serve(stream).ok());
            }
        });
        Ok(Self { address, shared })
    }

    /// Its address, for `base_url`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All requests so far, in the order in which they came.
    pub fn requests(&self) -> Vec<Seen> {
        self.shared.counts().requests.clone()
    }

    /// How many requests there were.
    pub fn count(&self) -> usize {
        self.shared.counts().requests.len()
    }

    /// The most requests that were under way at once.
    pub fn most_under_way(&self) -> usize {
        self.shared.most_under_way.load(Ordering::Relaxed)
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    /// Serves one connection to its end.
    fn serve(&self, mut stream: TcpStream) -> io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        while let Some(request) = http::read(&mut reader)? {
            let now = self.under_way.fetch_add(1, Ordering::Relaxed) + 1;
            self.most_under_way.fetch_max(now, Ordering::Relaxed);
            let mut act = self.decide(request);
            while let Act::After(wait, then) = act {
                thread::sleep(wait);
                act = *then;
            }
            // Before the reply leaves: the client may send its next request before this thread goes on.
            self.under_way.fetch_sub(1, Ordering::Relaxed);
            if !act.perform(&mut stream)? {
                break;
            }
        }
        Ok(())
    }

    /// Notes a request and asks the behaviour.
    fn decide(&self, request: Request) -> Act {
        if !self.all && request.method == "GET" {
            return Act::reply(404, "{}");
        }
        let mut counts = self.counts();
        let number = counts.requests.len();
        let same = counts.by_body.entry(request.body.clone()).or_default();
        let again = *same;
        *same += 1;
        let seen = Seen {
            method: request.method,
            path: request.path,
            headers: request.headers,
            body: serde_json::from_slice(&request.body).unwrap_or_default(),
            number,
            again,
        };
        counts.requests.push(seen.clone());
        drop(counts);
        (self.behaviour)(&seen)
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
