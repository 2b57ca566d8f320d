//! What becomes of a request.

use std::io::{self, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

/// What the server does with a request.
#[derive(Clone, Debug)]
pub enum Act {
    /// Answers with a status, headers and a body.
    Reply {
        /// The HTTP status.
        status: u16,
        /// Headers beside `content-length`.
        headers: Vec<(String, String)>,
        /// The body.
        body: String,
    },
    /// Answers so after a while.
    After(Duration, Box<Act>),
    /// Resets the connection without a word, once the request was read.
    Reset,
    /// Closes the connection without a word, once the request was read.
    Close,
    /// Says 200 with a body's full length, sends half of it, and closes.
    Cut(String),
    /// Says nothing for so long, then closes.
    Stall(Duration),
    /// Sends bytes that are no HTTP, and closes.
    Garbage,
}

impl Act {
    /// A reply without headers of its own.
    pub fn reply(status: u16, body: impl Into<String>) -> Self {
        Self::Reply {
            status,
            headers: Vec::new(),
            body: body.into(),
        }
    }

    /// The same with one more header, where it is a reply.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        if let Self::Reply { headers, .. } = &mut self {
            headers.push((name.to_owned(), value.into()));
        }
        self
    }

    /// Does it; says whether the connection can go on.
    pub(super) fn perform(&self, stream: &mut TcpStream) -> io::Result<bool> {
        match self {
            Self::Reply {
                status,
                headers,
                body,
            } => {
                let mut text = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n", body.len());
                for (name, value) in headers {
                    text += name;
                    text += ": ";
                    text += value;
                    text += "\r\n";
                }
                text += "\r\n";
                text += body;
                stream.write_all(text.as_bytes())?;
                Ok(true)
            }
            Self::After(wait, act) => {
                thread::sleep(*wait);
                act.perform(stream)
            }
            Self::Reset => {
                // With no time to linger, closing sends RST instead of FIN.
                rustix::net::sockopt::set_socket_linger(&*stream, Some(Duration::ZERO))?;
                Ok(false)
            }
            Self::Close => Ok(false),
            Self::Cut(body) => {
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
                stream.write_all(head.as_bytes())?;
                stream.write_all(&body.as_bytes()[..body.len() / 2])?;
                Ok(false)
            }
            Self::Stall(wait) => {
                thread::sleep(*wait);
                Ok(false)
            }
            Self::Garbage => {
                stream.write_all(b"\x16\x03\x01 what is this?\n\n")?;
                Ok(false)
            }
        }
    }
}
