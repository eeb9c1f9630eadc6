//! Completion of SQL and of the commands of the shell.

use broadside::memory::SqlSession;
use datafusion::arrow::array::AsArray;
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::DataType;
use datafusion::sql::sqlparser::keywords::ALL_KEYWORDS;
use rustyline::completion::Completer;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::validate::Validator;
use rustyline::{Context, Helper};

use super::commands::COMMANDS;
use crate::cli::Failure;

/// The tables and columns of a session.
const NAMES: &str = "
    SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'
    UNION SELECT column_name FROM information_schema.columns WHERE table_schema = 'public'
    ORDER BY 1";
const FUNCTIONS: &str = "SELECT DISTINCT routine_name FROM information_schema.routines";

/// Completes the word before the cursor.
pub struct Completion {
    /// In lower case, the tables and columns first.
    words: Vec<String>,
}

impl Completion {
    /// Completes keywords, and the names of a session.
    pub async fn of(session: &SqlSession) -> Result<Self, Failure> {
        let mut words = texts(session, NAMES).await?;
        let mut others = texts(session, FUNCTIONS).await?;
        others.extend(ALL_KEYWORDS.iter().map(|keyword| keyword.to_ascii_lowercase()));
        others.retain(|word| !words.contains(word));
        others.sort_unstable();
        others.dedup();
        words.extend(others);
        Ok(Self { words })
    }

    /// The start of the word that ends at the cursor, and the words that begin with it.
    fn candidates(&self, line: &str, at: usize) -> (usize, Vec<String>) {
        let before = &line[..at];
        if before.starts_with(['\\', '.']) && !before.contains(' ') {
            let known = COMMANDS.iter().filter(|command| command.starts_with(before));
            return (0, known.map(|&command| command.to_owned()).collect());
        }
        let is_of_word = |character: char| character.is_alphanumeric() || character == '_';
        let start = before.trim_end_matches(is_of_word).len();
        let word = &before[start..];
        if word.is_empty() {
            return (at, Vec::new());
        }
        let is_upper = !word.contains(|character: char| character.is_lowercase());
        let lower = word.to_lowercase();
        let known = self.words.iter().filter(|known| known.starts_with(&lower));
        (start, known.map(|known| if is_upper { known.to_uppercase() } else { known.clone() }).collect())
    }
}

/// The texts of the first column of a result.
async fn texts(session: &SqlSession, query: &str) -> Result<Vec<String>, Failure> {
    let mut texts = Vec::new();
    for batch in session.query(query).await?.collect().await? {
        let column = cast(batch.column(0), &DataType::Utf8)?;
        texts.extend(column.as_string::<i32>().iter().flatten().map(str::to_owned));
    }
    Ok(texts)
}

impl Completer for Completion {
    type Candidate = String;

    fn complete(&self, line: &str, at: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<String>)> {
        Ok(self.candidates(line, at))
    }
}

impl Helper for Completion {}
impl Highlighter for Completion {}
impl Hinter for Completion {
    type Hint = String;
}
impl Validator for Completion {}

#[cfg(test)]
mod tests {
    use broadside::Database;
    use broadside::memory::MemoryDatabase;

    use super::*;

    #[tokio::test]
    async fn tables_and_columns_precede_functions_and_keywords() {
        let database = MemoryDatabase::new();
        database.initialise_schema().await.unwrap();
        let session = database.sql_session().await.unwrap();
        let completion = Completion::of(&session).await.unwrap();
        let (_, words) = completion.candidates("SELECT s", 8);
        assert_eq!(words[..4], ["spec", "started", "state", "submitted"]);
        let others = &words[4..];
        assert!(others.contains(&"sum".to_owned()) && others.contains(&"select".to_owned()) && others.is_sorted());
    }

    #[test]
    fn the_word_before_the_cursor_is_completed() {
        let words = ["job", "job_id", "job_run", "select"].map(str::to_owned).into();
        let completion = Completion { words };
        let candidates = |line: &str, at| completion.candidates(line, at);
        assert_eq!(candidates("sel", 3), (0, vec!["select".to_owned()]));
        assert_eq!(candidates("SEL", 3), (0, vec!["SELECT".to_owned()]));
        assert_eq!(candidates("select j.job_, 1", 13), (9, vec!["job_id".to_owned(), "job_run".to_owned()]));
        assert_eq!(candidates("select ", 7), (7, Vec::new()));
        assert_eq!(candidates("select '\u{e9}", 10), (8, Vec::new()));
        assert_eq!(candidates("\\ti", 3), (0, vec!["\\timing".to_owned()]));
        assert_eq!(candidates("\\d job_i", 8), (3, vec!["job_id".to_owned()]));
    }
}
