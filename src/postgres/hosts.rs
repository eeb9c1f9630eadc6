//! The choice of a server among several hosts, by libpq's `target_session_attrs`.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::lookup_host;
use tokio::time::timeout;
use tokio_postgres::config::{Host, LoadBalanceHosts};
use tokio_postgres::{Config, SimpleQueryMessage};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::config::{PostgresConfig, TargetSessionAttrs};
use super::error::{Attempt, Failure, Remedy};
use super::session::{Session, SessionConfig};

/// Whether the server is a standby, and whether transactions are read-only.
const ROLE: &str = "SELECT pg_is_in_recovery(), current_setting('transaction_read_only')";

/// The hosts of a configuration.
pub(super) struct Hosts {
    servers: Vec<Config>,
    wanted: TargetSessionAttrs,
    connect_timeout: Duration,
}

impl Hosts {
    pub(super) fn new(config: &PostgresConfig) -> Self {
        Self {
            servers: config.driver_configs(),
            wanted: config.target_session_attrs,
            connect_timeout: config.connect_timeout,
        }
    }

    /// Opens a session on the first server that accepts one of the wanted kind.
    pub(super) async fn open(&self, tls: &MakeRustlsConnect, sessions: &Arc<SessionConfig>) -> Attempt<Session> {
        if let ([server], TargetSessionAttrs::Any) = (&self.servers[..], self.wanted) {
            return Session::open(server, tls.clone(), Arc::clone(sessions)).await;
        }
        let servers = self.servers().await;
        let kinds = match self.wanted {
            TargetSessionAttrs::PreferStandby => &[TargetSessionAttrs::Standby, TargetSessionAttrs::Any][..],
            ref wanted => std::slice::from_ref(wanted),
        };
        let attempts = u32::try_from(servers.len() * kinds.len()).unwrap_or(u32::MAX).max(1);
        let mut last = Failure::NoHost;
        for &kind in kinds {
            for server in &servers {
                let attempt = async {
                    let session = Session::open(server, tls.clone(), Arc::clone(sessions)).await?;
                    Ok(is_of_kind(&session, kind).await?.then_some(session))
                };
                let failure = match timeout(self.connect_timeout / attempts, attempt).await {
                    Ok(Ok(Some(session))) => return Ok(session),
                    Ok(Ok(None)) | Err(_) => Failure::NoHost,
                    Ok(Err(failure)) => failure,
                };
                // A failure that may pass decides: the host of the others may be the one that restarts.
                if last.remedy() == Remedy::None {
                    last = failure;
                }
            }
        }
        Err(last)
    }

    /// The servers in the order of the attempts. A name with several addresses can be a name of several servers.
    async fn servers(&self) -> Vec<Config> {
        let mut servers = Vec::new();
        for server in &self.servers {
            let addresses = match (server.get_hosts(), server.get_hostaddrs(), server.get_ports()) {
                ([Host::Tcp(name)], [], &[port]) if self.wanted != TargetSessionAttrs::Any => {
                    lookup_host((name.as_str(), port)).await.map(Vec::from_iter).unwrap_or_default()
                }
                _ => Vec::new(),
            };
            // The driver reports a failure to resolve the name.
            if addresses.is_empty() {
                servers.push(server.clone());
            }
            for address in addresses {
                let mut server = server.clone();
                server.hostaddr(address.ip());
                servers.push(server);
            }
        }
        if servers.first().is_some_and(|server| server.get_load_balance_hosts() == LoadBalanceHosts::Random) {
            let seed = RandomState::new();
            let mut numbers = 0..;
            servers.sort_by_cached_key(|_| seed.hash_one(numbers.next()));
        }
        servers
    }
}

async fn is_of_kind(session: &Session, kind: TargetSessionAttrs) -> Attempt<bool> {
    if kind == TargetSessionAttrs::Any {
        return Ok(true);
    }
    let messages = session.simple_query(ROLE).await?;
    let row =
        messages.iter().find_map(|message| if let SimpleQueryMessage::Row(row) = message { Some(row) } else { None });
    let is = |column, text| row.is_some_and(|row| row.get(column) == Some(text));
    let (is_standby, is_read_only) = (is(0, "t"), is(1, "on"));
    Ok(match kind {
        TargetSessionAttrs::ReadWrite => !is_read_only,
        TargetSessionAttrs::ReadOnly => is_read_only,
        TargetSessionAttrs::Primary => !is_standby,
        TargetSessionAttrs::Standby => is_standby,
        TargetSessionAttrs::Any | TargetSessionAttrs::PreferStandby => true,
    })
}
