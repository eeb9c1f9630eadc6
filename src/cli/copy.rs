//! `broadside copy`: copies a store into another one, or into a folder of Parquet files.

use broadside::exchange::{Census, CopyOptions, Endpoint, Filter, Table, copy};
use broadside::{DatabaseConfig, Timestamp};
use clap::Args;

use super::arguments::{Address, EndpointConfig};
use super::format;
use super::table::table;
use super::{ExitStatus, Failure, fill, messages, progress};

/// Copy a store into another one, or into a folder of Parquet files.
///
/// The rows are copied as they are, with all specs, errors and debug messages. The source is only read, in one
/// snapshot on PostgreSQL. The target must be empty. A copy that was interrupted continues if the command is
/// repeated with the same options.
///
/// At the end, the numbers of rows, the states of the jobs of each queue and the checksums of one job in 16 are
/// those of the source, or the command reports the differences.
#[derive(Debug, Args)]
#[command(after_long_help = AFTER_HELP)]
pub struct CopyArgs {
    /// The source: a backend, a URL, or parquet:FOLDER.
    #[arg(long, value_name = "ADDRESS")]
    from: Address,

    /// The target: a backend, a URL, or parquet:FOLDER.
    #[arg(long, value_name = "ADDRESS")]
    to: Address,

    /// Number of generated jobs of the source `memory`.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(..=fill::MAX_JOBS))]
    jobs: Option<u64>,

    /// Copy only the jobs of these queues, separated by commas.
    #[arg(long, value_name = "QUEUE", value_delimiter = ',')]
    queues: Vec<String>,

    /// Copy only jobs that were submitted at this time or later: 2026-01-31T00:00:00Z.
    #[arg(long, value_name = "TIME")]
    since: Option<Timestamp>,

    /// Copy about this share of the job sets, each as a whole: 1%.
    #[arg(long, value_name = "SHARE", value_parser = parse_share)]
    sample: Option<f64>,

    /// Do not copy specs.
    #[arg(long)]
    without_specs: bool,

    /// Replace ids, names and texts by hashes of the same length, with a random key that is not kept, and leave
    /// out specs. States, numbers, times and the keys of annotations remain.
    #[arg(long)]
    anonymise: bool,
}

const AFTER_HELP: &str = "\
Examples:
  broadside copy --from postgres://reader@replica/lookout --to parquet:jobs --sample 1% --anonymise
  broadside copy --from parquet:jobs --to clickhouse+http://default@localhost:8123/lookout
  broadside copy --from memory --jobs 1000000 --to parquet:generated

Exit codes:
  0  the target has the rows of the source
  1  the target differs from the source
  2  the target is not empty, an address is invalid, or a store cannot be read or written";

pub async fn run(args: &CopyArgs) -> Result<ExitStatus, Failure> {
    let (from, to) = (args.from.endpoint()?, args.to.endpoint()?);
    let options = args.options()?;
    match (&from, args.jobs) {
        (EndpointConfig::Store(DatabaseConfig::Memory), None) => {
            return Err(Failure::message("the source memory is empty: --jobs sets the number of generated jobs"));
        }
        (EndpointConfig::Store(DatabaseConfig::Memory), _) | (_, None) => {}
        (_, Some(_)) => return Err(Failure::message("--jobs requires --from memory")),
    }
    let (source, target) = (from.open().await?, to.open().await?);
    if let (Endpoint::Store(database), Some(jobs)) = (&source, args.jobs) {
        fill::generate(database.as_ref(), jobs).await?;
    }
    let bar = progress::bar("copying jobs", source.job_count().await?);
    let (copied, stored) = copy(&source, &target, &options, |copied| bar.set_position(copied.jobs)).await?;
    bar.finish_and_clear();
    report(&copied, &stored)
}

impl CopyArgs {
    fn options(&self) -> Result<CopyOptions, Failure> {
        let mut filter = Filter::new();
        if !self.queues.is_empty() {
            filter = filter.queues(&self.queues);
        }
        if let Some(since) = self.since {
            filter = filter.since(since);
        }
        if let Some(share) = self.sample {
            filter = filter.sample(share)?;
        }
        if self.without_specs {
            filter = filter.without_specs();
        }
        Ok(CopyOptions::new(filter, self.anonymise))
    }
}

/// Prints the rows of each table, and the differences.
fn report(copied: &Census, stored: &Census) -> Result<ExitStatus, Failure> {
    let rows = |table: Table| {
        let count = |census: &Census| format::whole(census.rows.get(table.name()).copied().unwrap_or(0));
        vec![table.name().to_owned(), count(copied), count(stored)]
    };
    let header = ["table", "copied", "stored"].map(str::to_owned);
    messages::output(table(1, header.into(), Table::ALL.map(rows)))?;
    let differences = copied.differences(stored);
    for difference in &differences {
        messages::problem(format_args!("the target differs from the source in {difference}"));
    }
    Ok(if differences.is_empty() { ExitStatus::Passed } else { ExitStatus::Differed })
}

fn parse_share(text: &str) -> Result<f64, String> {
    let share = text.strip_suffix('%').and_then(|percent| percent.trim().parse::<f64>().ok());
    share.map(|percent| percent / 100.0).ok_or_else(|| "must be a percentage: 1%".to_owned())
}
