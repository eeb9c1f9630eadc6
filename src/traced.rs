//! Tracing of the calls of a store: a span for each call, and an event at its end.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use futures::future::BoxFuture;
use tracing::{Instrument, Span, debug, debug_span, trace};

use crate::api::JobSpec;
use crate::database::{Activity, Database, Explanation, ProgressFn, StoreInfo};
use crate::error::{BackendKind, Operation, Result};
use crate::exchange::{Part, Parts};
use crate::historical::HistoricalJobs;
use crate::ingest::IngestionBatch;
use crate::model::{Job, JobGroup};
use crate::query::{GroupQuery, JobQuery, ReadCall};

/// A store whose calls are traced at level debug, and their arguments at level trace.
///
/// The methods are written as `async_trait` expands them, so that the store's boxed future is returned without another
/// allocation. Without a subscriber, a call costs one comparison.
pub(crate) struct Traced(pub(crate) Arc<dyn Database>);

impl fmt::Debug for Traced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

fn traced<'call, T: Send + 'call>(span: Span, call: BoxFuture<'call, Result<T>>) -> BoxFuture<'call, Result<T>> {
    if span.is_disabled() {
        return call;
    }
    let observed = async {
        let begun = Instant::now();
        let answer = call.await;
        let elapsed = begun.elapsed();
        match &answer {
            Ok(_) => debug!(?elapsed, "done"),
            Err(error) => debug!(?elapsed, kind = ?error.kind(), outcome = ?error.outcome(), %error, "failed"),
        }
        answer
    };
    Box::pin(observed.instrument(span))
}

/// The methods of a [`Database`]: name, arguments and result, and the fields of the trace event.
macro_rules! calls {
    ($($operation:ident { $($field:tt)* } $name:ident<$($lifetime:lifetime),*>($($argument:ident: $type:ty),*) -> $output:ty;)*) => {$(
        fn $name<'this, $($lifetime,)* 'call>(&'this self, $($argument: $type),*) -> BoxFuture<'call, Result<$output>>
        where
            'this: 'call,
            $($lifetime: 'call,)*
            Self: 'call,
        {
            let span = debug_span!("call", operation = %Operation::$operation, backend = %self.backend());
            trace!(parent: &span, $($field)* "begun");
            traced(span, self.0.$name($($argument),*))
        }
    )*};
}

impl Database for Traced {
    fn backend(&self) -> BackendKind {
        self.0.backend()
    }

    fn another_handle<'this, 'call>(&'this self) -> BoxFuture<'call, Result<Arc<dyn Database>>>
    where
        'this: 'call,
        Self: 'call,
    {
        let handle = self.0.another_handle();
        Box::pin(async { Ok(Arc::new(Self(handle.await?)) as Arc<dyn Database>) })
    }

    calls! {
        InitialiseSchema {} initialise_schema<>() -> ();
        ExecuteIngestionQueryBatch { queries = batch.query_count(), }
            execute_ingestion_query_batch<'a>(batch: &'a IngestionBatch) -> ();
        GetJobs { ?query, } get_jobs<'a>(query: &'a JobQuery) -> Vec<Job>;
        GetJobGroups { ?query, } get_job_groups<'a>(query: &'a GroupQuery) -> Vec<JobGroup>;
        JobCount {} job_count<>() -> u64;
        GetJobSpec { job_id, } get_job_spec<'a>(job_id: &'a str) -> JobSpec;
        GetJobError { job_id, } get_job_error<'a>(job_id: &'a str) -> String;
        GetJobRunError { run_id, } get_job_run_error<'a>(run_id: &'a str) -> String;
        GetJobRunDebugMessage { run_id, } get_job_run_debug_message<'a>(run_id: &'a str) -> String;
        PopulateHistoricalJobs { jobs = jobs.count(), }
            populate_historical_jobs<'a, 'b>(jobs: &'a HistoricalJobs, progress: ProgressFn<'b>) -> ();
        Export { after, } export<'a>(after: Option<&'a str>) -> Parts<'static>;
        Import { rows = part.rows(), } import<'a>(part: &'a Part) -> ();
        StoreInfo {} store_info<>() -> StoreInfo;
        Activity {} activity<>() -> Activity;
        Analyse {} analyse<>() -> ();
        Explain { ?call, } explain<'a>(call: &'a ReadCall) -> Explanation;
        Property { key, } property<'a>(key: &'a str) -> Option<String>;
        Property { key, } set_property<'a, 'b>(key: &'a str, value: Option<&'b str>) -> ();
        TearDown {} tear_down<>() -> ();
        Close {} close<>() -> ();
    }
}
