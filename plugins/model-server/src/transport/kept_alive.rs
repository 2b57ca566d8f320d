//! Connections that are kept alive: a model may think for minutes without a byte, and what is on the way forgets idle ones.
//!
//! The HTTP library opens its sockets itself and offers no such option, so this connector opens them in its place.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use rustix::net::sockopt::{
    set_socket_keepalive, set_tcp_keepcnt, set_tcp_keepidle, set_tcp_keepintvl,
};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout, ShutdownHandle,
    Transport,
};
use ureq::{Error, Timeout};

/// Silence before the first probe, as Anthropic's own clients set it.
const IDLE: Duration = Duration::from_mins(1);
/// Between two probes.
const INTERVAL: Duration = Duration::from_mins(1);
/// Probes without an answer that end a connection.
const PROBES: u32 = 5;

/// Opens TCP connections that are kept alive.
#[derive(Debug, Default)]
pub(super) struct KeptAlive;

impl<In: Transport> Connector<In> for KeptAlive {
    type Out = Either<In, Connection>;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, Error> {
        // A proxy has opened one, which came through here too.
        if let Some(chained) = chained {
            return Ok(Some(Either::A(chained)));
        }
        let stream = Arc::new(open(details)?);
        let shared: Arc<dyn ShutdownHandle> = stream.clone();
        let weak: Weak<dyn ShutdownHandle> = Arc::downgrade(&shared);
        (details.register_shutdown)(weak)?;
        let config = details.config;
        Ok(Some(Either::B(Connection {
            stream,
            buffers: LazyBuffers::new(config.input_buffer_size(), config.output_buffer_size()),
        })))
    }
}

/// A connection to the first of a host's addresses that takes one; each gets an equal part of the time that is left.
fn open(details: &ConnectionDetails<'_>) -> Result<TcpStream, Error> {
    let end = details
        .timeout
        .not_zero()
        .map(|left| Instant::now() + *left);
    let mut last = Error::HostNotFound;
    for (at, address) in details.addrs.iter().enumerate() {
        let left = end.map(|end| end.saturating_duration_since(Instant::now()));
        let share = left.map(|left| left / (details.addrs.len() - at) as u32);
        match open_one(*address, share, details.config.no_delay()) {
            Ok(stream) => return Ok(stream),
            Err(error) if is_timeout(&error) => last = Error::Timeout(Timeout::Connect),
            Err(error) => last = Error::Io(error),
        }
    }
    Err(last)
}

fn open_one(address: SocketAddr, wait: Option<Duration>, no_delay: bool) -> io::Result<TcpStream> {
    let stream = match wait {
        Some(wait) => TcpStream::connect_timeout(&address, wait.max(Duration::from_millis(10)))?,
        None => TcpStream::connect(address)?,
    };
    stream.set_nodelay(no_delay)?;
    keep_alive(&stream)?;
    Ok(stream)
}

fn keep_alive(stream: &TcpStream) -> io::Result<()> {
    set_socket_keepalive(stream, true)?;
    set_tcp_keepidle(stream, IDLE)?;
    set_tcp_keepintvl(stream, INTERVAL)?;
    set_tcp_keepcnt(stream, PROBES)?;
    Ok(())
}

/// A socket whose time is up says that it would block.
fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock
    )
}

/// An open connection.
#[derive(Debug)]
pub(super) struct Connection {
    /// Shared with whoever ends it from another thread.
    stream: Arc<TcpStream>,
    buffers: LazyBuffers,
}

/// The wait that a socket is given, and the moment at which it ends.
fn limit(timeout: NextTimeout) -> Result<Option<(Duration, Instant)>, Error> {
    if timeout.after.is_zero() {
        return Err(Error::Timeout(timeout.reason));
    }
    let wait = timeout.not_zero().map(|wait| *wait);
    Ok(wait.map(|wait| (wait, Instant::now() + wait)))
}

fn failed(error: io::Error, timeout: NextTimeout) -> Error {
    if is_timeout(&error) {
        Error::Timeout(timeout.reason)
    } else {
        Error::Io(error)
    }
}

impl Transport for Connection {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        let timeout = timeout.for_write();
        let limit = limit(timeout)?;
        self.stream.set_write_timeout(limit.map(|it| it.0))?;
        let output = &self.buffers.output()[..amount];
        (&*self.stream)
            .write_all(output)
            .map_err(|error| failed(error, timeout))
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        let timeout = timeout.for_read();
        let limit = limit(timeout)?;
        self.stream.set_read_timeout(limit.map(|it| it.0))?;
        let input = self.buffers.input_append_buf();
        let amount = loop {
            match ((&*self.stream).read(input), limit) {
                // A signal; Linux does not go on by itself where there is a time limit.
                (Err(error), Some((_, end))) if error.kind() == io::ErrorKind::Interrupted => {
                    let left = end.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Err(Error::Timeout(timeout.reason));
                    }
                    self.stream.set_read_timeout(Some(left))?;
                }
                (Err(error), _) => return Err(failed(error, timeout)),
                (Ok(amount), _) => break amount,
            }
        };
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    fn is_open(&mut self) -> bool {
        // Nothing waits to be read on a connection that nothing was asked on: an end or a byte is a reason to open another.
        let quiet = || -> io::Result<bool> {
            self.stream.set_nonblocking(true)?;
            let quiet = match self.stream.peek(&mut [0]) {
                Err(error) => error.kind() == io::ErrorKind::WouldBlock,
                Ok(_) => false,
            };
            self.stream.set_nonblocking(false)?;
            Ok(quiet)
        };
        quiet().unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use rustix::net::sockopt::{socket_keepalive, tcp_keepcnt, tcp_keepidle, tcp_keepintvl};

    use super::*;

    #[test]
    fn a_connection_is_probed_after_a_minute_of_silence() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let stream = open_one(address, Some(Duration::from_secs(1)), true).unwrap();
        assert!(socket_keepalive(&stream).unwrap());
        assert_eq!(tcp_keepidle(&stream).unwrap(), Duration::from_mins(1));
        assert_eq!(tcp_keepintvl(&stream).unwrap(), Duration::from_mins(1));
        assert_eq!(tcp_keepcnt(&stream).unwrap(), 5);
        assert!(stream.nodelay().unwrap());
    }

    #[test]
    fn a_connection_that_the_server_has_closed_is_not_used_again() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let mut connection = Connection {
            stream: Arc::new(open_one(address, None, true).unwrap()),
            buffers: LazyBuffers::new(1024, 1024),
        };
        let (theirs, _) = listener.accept().unwrap();
        assert!(connection.is_open());
        drop(theirs);
        std::thread::sleep(Duration::from_millis(50));
        assert!(!connection.is_open());
    }
}
