//! The agreement of the load generators that share a load, by properties of the store.
//!
//! A store keeps the properties of an earlier load that was killed, and a property has no owner. Therefore each process
//! has a random token, and believes only what a process that is alive must have written:
//!
//! - While it waits, each share repeats its [`Entry`] with an increasing beat. A share whose property changes while it is
//!   watched is run by another process.
//! - Each share answers the token and the beat of the last share. The last share counts an answer to its own token, which
//!   no earlier process can have given.
//! - The load begins for the tokens that the last share names, and only their ends are counted.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::expectation::ExpectedCounts;
use super::ids;
use super::share::Share;
use crate::database::Database;
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::time::{Clock, SystemClock, Timestamp};

/// The interval at which a waiting share repeats its entry.
const BEAT: Duration = Duration::from_millis(200);
/// The interval at which a share reads the entry of the last share, which bounds the difference between their starts.
const POLL: Duration = Duration::from_millis(20);
/// The time for which an entry of another process is watched.
const WATCH: Duration = Duration::from_millis(1500);

/// The property of a share that waits for the load.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Entry {
    token: String,
    share: String,
    /// The hash of everything that determines the load.
    plan: String,
    beat: u64,
    /// The token and the beat of the last share that this share has read.
    answers: Option<(String, u64)>,
    /// Set by the last share when the load begins.
    begun: Option<Begun>,
    /// The reason for which the last share does not begin the load.
    refused: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Begun {
    /// The time from which all shares derive the ids and times of their jobs.
    start: Timestamp,
    /// The tokens of the other shares, by index.
    tokens: Vec<String>,
}

/// The property of a share whose load has ended.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct End {
    token: String,
    /// The changes of the counts of the store; `None` if some events are not known to be stored.
    pub(super) counts: Option<ExpectedCounts>,
    /// Whether the share failed, so that the data must stay.
    pub(super) failed: bool,
}

/// A share's view of the load generators that share its load.
pub(super) struct Team {
    database: Arc<dyn Database>,
    share: Share,
    /// The maximum time without a sign of life of a share that is required.
    limit: Duration,
    stop: watch::Receiver<bool>,
    entry: Entry,
    /// The entry of the last share when this share joined, which may be that of an earlier load.
    earlier: Option<Entry>,
    /// The entry that this share has replaced, of another load.
    replaced: Option<Entry>,
}

impl Team {
    /// Joins the load. The last share waits until all others have joined. Returns `None` if `stop` is set meanwhile.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` if another process runs the share, or a share has another plan. `Timeout` if a share is missing.
    pub(super) async fn join(
        database: Arc<dyn Database>,
        share: Share,
        plan: u64,
        limit: Duration,
        stop: watch::Receiver<bool>,
    ) -> Result<Option<Self>> {
        // The standard library seeds this hasher at random.
        let random = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), std::process::id());
        let entry = Entry {
            token: format!("{random:016x}"),
            share: share.to_string(),
            plan: format!("{plan:016x}"),
            beat: 0,
            answers: None,
            begun: None,
            refused: None,
        };
        let mut team = Self { database, share, limit, stop, entry, earlier: None, replaced: None };
        match team.enter().await {
            Ok(true) => Ok(Some(team)),
            refused => {
                team.leave().await;
                refused.map(|_| None)
            }
        }
    }

    async fn enter(&mut self) -> Result<bool> {
        if !self.share.is_last() && !self.initialised().await? {
            return Ok(false);
        }
        self.earlier = self.read(&entry_of(self.share.last())).await?;
        self.claim().await?;
        Ok(!self.share.is_last() || self.gather().await?.is_some())
    }

    /// Waits until the last share has given the store a marker. Returns false if `stop` is set meanwhile.
    async fn initialised(&self) -> Result<bool> {
        let began = Instant::now();
        while !*self.stop.borrow() {
            match self.database.property(&entry_of(self.share)).await {
                Err(error) if !matches!(error.kind(), ErrorKind::NotInitialised | ErrorKind::WrongStore) => {
                    return Err(error);
                }
                Err(_) if began.elapsed() < self.limit => sleep(BEAT).await,
                Err(error) if error.kind() == ErrorKind::WrongStore => return Err(error),
                Err(_) => return Err(self.missing(&names([self.share.last()]))),
                Ok(_) => return Ok(true),
            }
        }
        Ok(false)
    }

    /// Restores the property of this share, whose load does not begin.
    pub(super) async fn leave(&self) {
        if self.entry.refused.is_some() {
            // The others read the reason first.
            sleep(BEAT * 4).await;
        }
        let key = entry_of(self.share);
        // An error leaves an entry without an owner, which no share believes.
        if let Ok(Some(Entry { token, .. })) = self.read(&key).await
            && token == self.entry.token
        {
            let replaced = self.replaced.as_ref().and_then(|entry| serde_json::to_string(entry).ok());
            self.database.set_property(&key, replaced.as_deref()).await.ok();
        }
    }

    /// Executes the work of the last share before the load. The others wait as long as it shows signs of life.
    pub(super) async fn beating<T>(&mut self, work: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return done,
                () = sleep(BEAT) => self.beat().await?,
            }
        }
    }

    /// Waits until all shares begin the load. Returns its start; `None` if `stop` is set meanwhile.
    ///
    /// # Errors
    ///
    /// As for [`join`](Self::join).
    pub(super) async fn begin(&mut self) -> Result<Option<Timestamp>> {
        if !self.share.is_last() {
            return self.follow().await;
        }
        let Some(tokens) = self.gather().await? else { return Ok(None) };
        let start = SystemClock.now();
        self.entry.begun = Some(Begun { start, tokens });
        self.write_entry().await?;
        Ok(Some(start))
    }

    /// The name of the load, which all its shares know once it has begun.
    pub(super) fn load(&self) -> &str {
        match &self.entry.answers {
            Some((token, _)) if !self.share.is_last() => token,
            _ => &self.entry.token,
        }
    }

    /// Reports the end of this share, which makes no further calls.
    pub(super) async fn end(&self, counts: Option<ExpectedCounts>, failed: bool) -> Result<()> {
        let end = End { token: self.entry.token.clone(), counts, failed };
        self.write(&end_of(self.share), &end).await
    }

    /// Waits for the ends of the other shares, as the last share.
    ///
    /// # Errors
    ///
    /// `Timeout` with the shares that have not ended within the limit.
    pub(super) async fn ends(&self, limit: Duration) -> Result<Vec<End>> {
        let tokens = self.entry.begun.as_ref().map_or(&[][..], |begun| &begun.tokens);
        let mut ends: Vec<Option<End>> = vec![None; tokens.len()];
        let wait = async {
            loop {
                for ((share, token), end) in self.share.others().zip(tokens).zip(&mut ends) {
                    if end.is_none() {
                        // A store that does not answer may answer later.
                        let found: Option<End> = self.read(&end_of(share)).await.unwrap_or_default();
                        *end = found.filter(|end| end.token == *token);
                    }
                }
                if ends.iter().all(Option::is_some) {
                    return;
                }
                sleep(BEAT).await;
            }
        };
        tokio::select! {
            biased;
            _ = timeout(limit, wait) => {}
            () = self.stopped_now() => {}
        }
        let missing: Vec<_> = self.share.others().zip(&ends).filter(|(_, end)| end.is_none()).collect();
        if missing.is_empty() {
            return Ok(ends.into_iter().flatten().collect());
        }
        let names = names(missing.into_iter().map(|(share, _)| share));
        Err(Error::new(
            ErrorKind::Timeout,
            Operation::LoadTest,
            format!("{names} did not report an end within {limit:?} after the drain"),
        ))
    }

    /// The shares that have failed according to the ends of all others; `None` without any.
    pub(super) fn failed(&self, ends: &[End]) -> Option<String> {
        let failed: Vec<_> = self.share.others().zip(ends).filter(|(_, end)| end.failed).collect();
        (!failed.is_empty()).then(|| format!("{} failed", names(failed.into_iter().map(|(share, _)| share))))
    }

    /// Completes when `stop` becomes set, but not if it already is.
    async fn stopped_now(&self) {
        let mut stop = self.stop.clone();
        if *stop.borrow() || stop.wait_for(|stop| *stop).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Takes the property of the share, unless a process that is alive has it.
    async fn claim(&mut self) -> Result<()> {
        let key = entry_of(self.share);
        if let Some(found) = self.read::<Entry>(&key).await? {
            sleep(WATCH).await;
            if self.read(&key).await?.is_some_and(|now: Entry| now != found) {
                return Err(self.taken(&found.share));
            }
            self.replaced = Some(found);
        }
        self.write_entry().await.map_err(|error| match error.kind() {
            // The store has a marker, and a split would change it before the shares agree.
            ErrorKind::NotInitialised => {
                let message = "the store has another layout than the address: change it by a run without --share first";
                Error::new(ErrorKind::WrongStore, Operation::LoadTest, message)
            }
            _ => error,
        })
    }

    fn taken(&self, share: &str) -> Error {
        invalid(format!("another process runs share {share} on this store, so this one cannot run {}", self.share))
    }

    /// Repeats the entry.
    async fn beat(&mut self) -> Result<()> {
        let found: Option<Entry> = self.read(&entry_of(self.share)).await?;
        if let Some(found) = found.filter(|found| found.token != self.entry.token) {
            return Err(self.taken(&found.share));
        }
        self.entry.beat += 1;
        self.write_entry().await
    }

    /// Waits until all other shares answer, as the last share. Returns their tokens; `None` if `stop` is set meanwhile.
    async fn gather(&mut self) -> Result<Option<Vec<String>>> {
        let gathered = self.answers().await;
        let refused = match &gathered {
            Ok(Some(_)) => return gathered,
            Ok(None) => format!("share {} was interrupted", self.share),
            Err(error) => error.message().to_owned(),
        };
        self.entry.refused = Some(refused);
        // The others otherwise wait for their limit.
        drop(self.beat().await);
        gathered
    }

    async fn answers(&mut self) -> Result<Option<Vec<String>>> {
        let (began, first) = (Instant::now(), self.entry.beat + 1);
        while !*self.stop.borrow() {
            self.beat().await?;
            sleep(BEAT / 2).await;
            let (mut tokens, mut missing) = (Vec::new(), Vec::new());
            for share in self.share.others() {
                let entry: Option<Entry> = self.read(&entry_of(share)).await?;
                let answers = |(token, beat): &(String, u64)| *token == self.entry.token && *beat >= first;
                match entry.filter(|entry| entry.answers.as_ref().is_some_and(answers)) {
                    Some(entry) if entry.plan == self.entry.plan => tokens.push(entry.token),
                    Some(entry) => return Err(self.other_plan(&entry.share)),
                    None => missing.push(share),
                }
            }
            if missing.is_empty() {
                return Ok(Some(tokens));
            }
            if began.elapsed() >= self.limit {
                return Err(self.missing(&names(missing)));
            }
        }
        Ok(None)
    }

    fn other_plan(&self, share: &str) -> Error {
        invalid(format!(
            "share {share} has another plan than share {}: the configuration, the options, the recorded reads and the \
             version of Broadside must be the same",
            self.share
        ))
    }

    fn missing(&self, shares: &str) -> Error {
        let message = format!("{shares} did not join the load within {:?}", self.limit);
        Error::new(ErrorKind::Timeout, Operation::LoadTest, message)
    }

    /// Answers the last share until the load begins.
    async fn follow(&mut self) -> Result<Option<Timestamp>> {
        let (mut changed, mut written) = (Instant::now(), Instant::now());
        let mut seen = self.earlier.clone();
        while !*self.stop.borrow() {
            let last: Option<Entry> = self.read(&entry_of(self.share.last())).await?;
            if last != seen {
                changed = Instant::now();
                match &last {
                    Some(last) => {
                        if let Some(start) = self.begun_by(last)? {
                            return Ok(Some(start));
                        }
                        self.entry.answers = Some((last.token.clone(), last.beat));
                    }
                    None if self.entry.answers.is_some() => {
                        return Err(invalid(format!("share {} has ended before the load", self.share.last())));
                    }
                    None => {}
                }
                seen = last;
            } else if written.elapsed() < BEAT {
                if changed.elapsed() >= self.limit {
                    return Err(self.missing(&names([self.share.last()])));
                }
                sleep(POLL).await;
                continue;
            }
            self.beat().await?;
            written = Instant::now();
        }
        Ok(None)
    }

    /// The start of the load according to a new entry of the last share; `None` if it has not begun.
    fn begun_by(&self, last: &Entry) -> Result<Option<Timestamp>> {
        if let Some(reason) = &last.refused {
            return Err(invalid(reason.clone()));
        }
        let Some(begun) = &last.begun else { return Ok(None) };
        if begun.tokens.get(self.share.index() as usize) != Some(&self.entry.token) {
            return Err(invalid(format!(
                "the load of share {} has begun without this share {}",
                last.share, self.share
            )));
        }
        Ok(Some(begun.start))
    }

    async fn read<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        // A property of another version is as good as none.
        Ok(self.database.property(key).await?.and_then(|text| serde_json::from_str(&text).ok()))
    }

    async fn write_entry(&self) -> Result<()> {
        self.write(&entry_of(self.share), &self.entry).await
    }

    async fn write(&self, key: &str, value: &impl Serialize) -> Result<()> {
        let text = serde_json::to_string(value).map_err(|error| invalid("not JSON".to_owned()).with_source(error))?;
        self.database.set_property(key, Some(&text)).await
    }
}

fn invalid(message: String) -> Error {
    Error::new(ErrorKind::InvalidArgument, Operation::LoadTest, message)
}

/// The name of the property of a waiting share. The last share of any number of shares has the same, because it owns the
/// store.
fn entry_of(share: Share) -> String {
    if share.is_last() { "load.share.last".to_owned() } else { format!("load.share.{}", share.index() + 1) }
}

/// The name of the property with the end of a share.
fn end_of(share: Share) -> String {
    format!("load.share.{}.end", share.index() + 1)
}

fn names(shares: impl IntoIterator<Item = Share>) -> String {
    let names: Vec<_> = shares.into_iter().map(|share| share.to_string()).collect();
    format!("{} {}", if names.len() == 1 { "share" } else { "shares" }, names.join(", "))
}

/// The hash of a plan.
pub(super) fn plan(parts: &[String]) -> u64 {
    ids::hash(&parts.join("\n"))
}
