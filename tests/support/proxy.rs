//! A TCP proxy in front of a server, which delays or drops requests and responses.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use url::Url;

/// The behaviour of the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Requests and responses are forwarded.
    Open,
    /// Requests are forwarded, responses are held until the mode changes.
    Stalled,
    /// Requests are forwarded, responses are dropped.
    Silent,
    /// Requests are forwarded, responses to requests that insert or update rows are dropped.
    SilentToInserts,
    /// The connection is cut instead of forwarding the next response.
    CutNextAnswer,
    /// The connection is cut instead of forwarding the next response to an insert or update.
    CutNextAnswerToInsert,
    /// The server is gone: all connections are cut, and new ones too.
    Gone,
    /// The proxy responds with 502, as a gateway without a server.
    BadGateway,
    /// Responses of ClickHouse to requests that contain this string are replaced by the error with this code.
    Refused(&'static str, u32),
    /// Requests that contain this string are held until the mode changes.
    HoldRequests(&'static str),
    /// Requests that insert or update rows are held until the mode changes, and then forwarded even if the client has
    /// disconnected.
    HoldInserts,
    /// Responses to requests that contain this string are held until the mode changes.
    HoldAnswers(&'static str),
}

impl Mode {
    fn holds_request(self, request: &str) -> bool {
        matches!(self, Self::HoldRequests(text) if request.contains(text))
    }

    fn concerns_answer(self, request: &str) -> bool {
        matches!(self, Self::HoldAnswers(text) | Self::Refused(text, _) if request.contains(text))
    }
}

/// A proxy, which is stopped by dropping it.
#[derive(Debug)]
pub struct Proxy {
    address: String,
    /// The host and port of the server.
    target: Arc<Mutex<String>>,
    mode: Arc<watch::Sender<Mode>>,
    cuts: Arc<AtomicUsize>,
    held: Arc<watch::Sender<usize>>,
    late: Arc<watch::Sender<usize>>,
    task: tokio::task::JoinHandle<()>,
}

impl Proxy {
    /// Starts a proxy in front of the server with an address.
    pub async fn start(server: &str) -> Self {
        let mut url: Url = server.parse().unwrap();
        let target = Arc::new(Mutex::new(host_and_port(&url)));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        url.set_host(Some("127.0.0.1")).unwrap();
        url.set_port(Some(port)).unwrap();
        let (mode, cuts) = (Arc::new(watch::Sender::new(Mode::Open)), Arc::new(AtomicUsize::new(0)));
        let held = Arc::new(watch::Sender::new(0));
        let late = Arc::new(watch::Sender::new(0));
        let shared = Connection { mode: mode.clone(), cuts: cuts.clone(), held: held.clone(), late: late.clone() };
        let current = target.clone();
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if *shared.mode.borrow() == Mode::Gone {
                    continue;
                }
                let target = current.lock().unwrap().clone();
                let server = TcpStream::connect(target).await.unwrap();
                tokio::spawn(shared.clone().relay(client, server));
            }
        });
        Self { address: url.into(), target, mode, cuts, held, late, task }
    }

    /// The address of the server through the proxy.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Forwards new connections to another server.
    pub fn forward_to(&self, server: &str) {
        *self.target.lock().unwrap() = host_and_port(&server.parse().unwrap());
    }

    /// Sets the behaviour.
    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// Waits until a request or a response is held.
    pub async fn holds(&self) {
        self.held.subscribe().wait_for(|&held| held > 0).await.expect("the proxy has the sender");
    }

    /// Waits until the server has responded to this number of held inserts and updates.
    pub async fn landed(&self, requests: usize) {
        self.late.subscribe().wait_for(|&landed| landed >= requests).await.expect("the proxy has the sender");
    }

    /// The number of cut connections and refused requests.
    pub fn cuts(&self) -> usize {
        self.cuts.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn host_and_port(url: &Url) -> String {
    format!("{}:{}", url.host_str().unwrap(), url.port().unwrap())
}

#[derive(Clone)]
struct Connection {
    mode: Arc<watch::Sender<Mode>>,
    cuts: Arc<AtomicUsize>,
    /// The number of held requests and responses.
    held: Arc<watch::Sender<usize>>,
    /// The number of held inserts and updates to which the server has responded.
    late: Arc<watch::Sender<usize>>,
}

impl Connection {
    async fn relay(self, client: TcpStream, server: TcpStream) {
        client.set_nodelay(true).unwrap();
        server.set_nodelay(true).unwrap();
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        // Whether the current request inserts or updates.
        let writes = watch::Sender::new(false);
        // Whether its answer is held or refused.
        let awaited = watch::Sender::new(false);
        // Whether it is an insert or update that was held.
        let late = AtomicBool::new(false);
        tokio::select! {
            () = self.requests(from_client, to_server, &writes, &awaited, &late) => {}
            () = self.answers(from_server, to_client, &writes, &awaited, &late) => {}
            () = self.gone() => {}
        }
    }

    /// Waits until the server is gone.
    async fn gone(&self) {
        drop(self.mode.subscribe().wait_for(|&mode| mode == Mode::Gone).await.expect("the proxy has the sender"));
    }

    /// Waits until the mode does not hold requests or responses.
    async fn hold(&self) {
        self.held.send_modify(|held| *held += 1);
        let released = |mode: &Mode| !matches!(mode, Mode::HoldRequests(_) | Mode::HoldAnswers(_));
        self.mode.subscribe().wait_for(released).await.expect("the proxy has the sender");
        self.held.send_modify(|held| *held -= 1);
    }

    async fn requests(
        &self,
        mut from: OwnedReadHalf,
        mut to: OwnedWriteHalf,
        writes: &watch::Sender<bool>,
        awaited: &watch::Sender<bool>,
        late: &AtomicBool,
    ) {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(length @ 1..) = from.read(&mut buffer).await {
            let bytes = &buffer[..length];
            let text = String::from_utf8_lossy(bytes);
            let continues = !bytes.starts_with(b"POST ");
            writes.send_modify(|writes| {
                *writes = continues && *writes || text.contains("INSERT") || text.contains("UPDATE ");
            });
            let mode = *self.mode.borrow();
            awaited.send_modify(|awaited| *awaited |= mode.concerns_answer(&text));
            if mode.holds_request(&text) {
                // The server must detect that its client has disconnected, because its transaction has locks.
                tokio::select! {
                    () = self.hold() => {}
                    () = gone(&mut from) => return,
                }
            }
            if mode == Mode::HoldInserts && *writes.borrow() {
                let (request, client_is_gone) = self.hold_insert(bytes.to_vec(), &mut from).await;
                late.store(true, Ordering::Relaxed);
                to.write_all(&request).await.unwrap();
                if client_is_gone {
                    return std::future::pending().await;
                }
            } else if to.write_all(bytes).await.is_err() {
                return;
            }
        }
    }

    /// The part of the request that the client sends before the mode changes, and whether the client has disconnected.
    async fn hold_insert(&self, mut request: Vec<u8>, from: &mut OwnedReadHalf) -> (Vec<u8>, bool) {
        let mut mode = self.mode.subscribe();
        let mut buffer = vec![0; 64 * 1024];
        let mut client_is_gone = false;
        loop {
            tokio::select! {
                changed = mode.wait_for(|&mode| mode != Mode::HoldInserts) => {
                    drop(changed.unwrap());
                    return (request, client_is_gone);
                }
                read = from.read(&mut buffer), if !client_is_gone => match read {
                    Ok(length @ 1..) => request.extend(&buffer[..length]),
                    _ => client_is_gone = true,
                },
            }
        }
    }

    async fn answers(
        &self,
        mut from: OwnedReadHalf,
        mut to: OwnedWriteHalf,
        writes: &watch::Sender<bool>,
        awaited: &watch::Sender<bool>,
        late: &AtomicBool,
    ) {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(length @ 1..) = from.read(&mut buffer).await {
            let mode = self.mode.subscribe().wait_for(|mode| *mode != Mode::Stalled).await.map(|mode| *mode);
            let mode = mode.unwrap_or(Mode::Open);
            let writes = *writes.borrow();
            if late.swap(false, Ordering::Relaxed) {
                self.late.send_modify(|landed| *landed += 1);
            }
            let awaited = awaited.send_replace(false);
            match mode {
                Mode::Refused(_, code) if awaited => {
                    self.cuts.fetch_add(1, Ordering::Relaxed);
                    let error = format!("Code: {code}. DB::Exception: refused by the proxy");
                    let page = format!("HTTP/1.1 500 Refused\r\ncontent-length: {}\r\n\r\n{error}", error.len());
                    if to.write_all(page.as_bytes()).await.is_err() {
                        return;
                    }
                    continue;
                }
                _ if awaited => self.hold().await,
                _ => {}
            }
            match mode {
                Mode::Silent => return std::future::pending().await,
                Mode::SilentToInserts if writes => return std::future::pending().await,
                Mode::CutNextAnswer => return self.cut(),
                Mode::CutNextAnswerToInsert if writes => return self.cut(),
                Mode::BadGateway => {
                    let page = "HTTP/1.1 502 Bad Gateway\r\ncontent-length: 6\r\n\r\n<html>";
                    if to.write_all(page.as_bytes()).await.is_err() {
                        return;
                    }
                }
                _ => {
                    if to.write_all(&buffer[..length]).await.is_err() {
                        return;
                    }
                }
            }
        }
    }

    fn cut(&self) {
        self.mode.send_replace(Mode::Open);
        self.cuts.fetch_add(1, Ordering::Relaxed);
    }
}

/// Waits until a client has closed its connection without a further request.
async fn gone(client: &mut OwnedReadHalf) {
    if let Ok(1..) = client.peek(&mut [0]).await {
        std::future::pending().await
    }
}
