//! The process id that the server announced when the connection was opened.
//!
//! The id is meant for cancel requests. A pooler announces an id of its own, because the process behind it changes from
//! one transaction to the next; so the announced id differs from `pg_backend_pid()` exactly behind a pooler. The driver
//! does not expose the id, but writes it to cancel requests. This module writes one to a buffer and parses it.
//!
//! The marker does not replace this detection: only writing transactions read it. A read is one statement outside a
//! transaction, which behind a pooler of transactions may be executed by a process with another search path. It would
//! return the jobs of another schema, without an error.

use std::future::{Ready, ready};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex};
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};
use tokio_postgres::{CancelToken, Error as DriverError};

/// The lengths of a TLS request and of a cancel request, which are their first fields.
const TLS_REQUEST: u32 = 8;
const CANCEL_REQUEST: u32 = 16;

/// The announced process id; `None` if the request does not follow the protocol.
pub(super) async fn announced(token: &CancelToken) -> Result<Option<i32>, DriverError> {
    let (driver, mut server) = duplex(64);
    let (sent, read) = tokio::join!(token.cancel_query_raw(driver, Plain), read(&mut server));
    sent.map(|()| read.ok().flatten())
}

async fn read(stream: &mut DuplexStream) -> io::Result<Option<i32>> {
    let mut length = stream.read_u32().await?;
    if length == TLS_REQUEST {
        stream.read_u32().await?;
        stream.write_all(b"S").await?;
        length = stream.read_u32().await?;
    }
    if length != CANCEL_REQUEST {
        return Ok(None);
    }
    stream.read_u32().await?;
    let process = stream.read_i32().await?;
    stream.read_u32().await?;
    Ok(Some(process))
}

/// Replaces TLS for a request that does not leave the process.
struct Plain;

impl TlsConnect<DuplexStream> for Plain {
    type Stream = PlainStream;
    type Error = io::Error;
    type Future = Ready<io::Result<PlainStream>>;

    fn connect(self, stream: DuplexStream) -> Self::Future {
        ready(Ok(PlainStream(stream)))
    }
}

struct PlainStream(DuplexStream);

impl TlsStream for PlainStream {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl AsyncRead for PlainStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, out)
    }
}

impl AsyncWrite for PlainStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
