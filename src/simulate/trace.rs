//! Request traces: arrival times, numbers of rows and models of requests. They contain no payloads.
//!
//! CSV with a header line. `arrival_s` (seconds since the first request) is required; `rows`,
//! `model` and `client` (a number) are optional, other columns are ignored.

use anyhow::{Context, bail, ensure};
use serde::Deserialize;
use std::fmt::Write as _;
use std::io::Read;
use std::path::Path;

/// The header that `serve --record` writes.
const HEADER: &str = "arrival_s,rows,model";
/// Limit of requests: longer traces do not fit into memory twice.
const REQUESTS_MAX: usize = 50_000_000;
/// Limit of rows: a request with more is assumed to be an error in the file.
const ROWS_MAX: u32 = 1 << 24;

/// One request of a trace.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TraceRequest {
    /// Seconds since the trace began.
    pub at: f64,
    pub rows: u32,
    /// Index into [`Trace::models`].
    pub model: usize,
    /// Number of the client.
    pub client: u32,
}

/// Requests in the order of their arrival.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trace {
    pub requests: Vec<TraceRequest>,
    /// Names of the requested models; one empty name if the file contains none.
    pub models: Vec<String>,
}

#[derive(Deserialize)]
struct TraceLine {
    arrival_s: f64,
    #[serde(default)]
    rows: Option<u32>,
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    client: Option<u32>,
}

impl Trace {
    /// Creates requests of one row for one model at these times.
    pub fn at(times: impl IntoIterator<Item = f64>) -> Trace {
        let request = |at| TraceRequest { at, rows: 1, model: 0, client: 0 };
        let requests = times.into_iter().map(request).collect();
        Trace { requests, models: vec![String::new()] }
    }

    /// Reads a file.
    ///
    /// # Errors
    /// A file that cannot be read, or a line that is not a request; the error contains its number.
    pub fn open(path: &Path) -> anyhow::Result<Trace> {
        let file = std::fs::File::open(path);
        let file = file.with_context(|| format!("failed to open the trace {}", path.display()))?;
        let trace = Trace::read(std::io::BufReader::new(file));
        trace.with_context(|| format!("failed to read the trace {}", path.display()))
    }

    /// Reads CSV.
    ///
    /// # Errors
    /// As for [`Trace::open`].
    pub fn read(source: impl Read) -> anyhow::Result<Trace> {
        let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(source);
        let header = reader.headers().context("failed to read the header line")?;
        if !header.iter().any(|name| name == "arrival_s") {
            bail!("the first line must name the columns, including `arrival_s`, as in `{HEADER}`");
        }
        let mut trace = Trace::default();
        for (at, line) in reader.deserialize::<TraceLine>().enumerate() {
            // The header is line 1.
            let number = at + 2;
            let line = line.with_context(|| format!("line {number} is not a request"))?;
            trace.push(line).with_context(|| format!("line {number} is not a request"))?;
            ensure!(at < REQUESTS_MAX, "too many requests; at most {REQUESTS_MAX} are supported");
        }
        ensure!(!trace.requests.is_empty(), "the trace has no requests");
        Ok(trace)
    }

    fn push(&mut self, line: TraceLine) -> anyhow::Result<()> {
        let (at, rows) = (line.arrival_s, line.rows.unwrap_or(1));
        ensure!(
            at.is_finite() && (0.0..1e9).contains(&at),
            "`arrival_s` is {at}; it must be 0 to 1e9 seconds"
        );
        let last = self.requests.last().map_or(0.0, |request| request.at);
        ensure!(at >= last, "`arrival_s` is {at}, before the line above; sort the file");
        ensure!((1..=ROWS_MAX).contains(&rows), "`rows` is {rows}, not 1 to {ROWS_MAX}");
        let name = line.model.unwrap_or_default();
        let known = self.models.iter().position(|model| *model == name);
        let model = known.unwrap_or_else(|| {
            self.models.push(name);
            self.models.len() - 1
        });
        self.requests.push(TraceRequest { at, rows, model, client: line.client.unwrap_or(0) });
        Ok(())
    }

    /// Writes the trace as CSV, in the format that [`Trace::read`] reads.
    pub fn to_csv(&self) -> String {
        let mut text = format!("{HEADER},client\n");
        for TraceRequest { at, rows, model, client } in &self.requests {
            let name = self.models.get(*model).map_or("", String::as_str);
            // Names of models contain no characters that need quotes, except quotes and commas.
            let name = format!("\"{}\"", name.replace('"', "\"\""));
            let _ = writeln!(text, "{at:.3},{rows},{name},{client}");
        }
        text
    }

    /// Seconds from the first request to the last.
    pub fn span(&self) -> f64 {
        let first = self.requests.first().map_or(0.0, |request| request.at);
        self.requests.last().map_or(0.0, |request| request.at - first)
    }

    /// Returns the name of the model with the most requests.
    pub fn main_model(&self) -> &str {
        let count = |model: usize| self.requests.iter().filter(|it| it.model == model).count();
        let most = (0..self.models.len()).max_by_key(|model| count(*model));
        most.and_then(|model| self.models.get(model)).map_or("", String::as_str)
    }

    /// Arrival times.
    pub fn times(&self) -> Vec<f64> {
        self.requests.iter().map(|request| request.at).collect()
    }

    /// Returns the busiest period of `seconds`, moved to time zero; all of the trace if it is
    /// shorter.
    pub fn busiest(&self, seconds: f64) -> Trace {
        let within = |from: usize| {
            let end = self.requests[from].at + seconds;
            self.requests[from..].partition_point(|request| request.at < end)
        };
        let from =
            (0..self.requests.len()).max_by_key(|from| (within(*from), self.requests.len() - from));
        let Some(from) = from.filter(|_| self.span() > seconds) else { return self.clone() };
        let start = self.requests[from].at;
        let cut = &self.requests[from..from + within(from)];
        let requests = cut.iter().map(|r| TraceRequest { at: r.at - start, ..*r }).collect();
        Trace { requests, models: self.models.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> anyhow::Result<Trace> {
        Trace::read(text.as_bytes())
    }

    #[test]
    fn optional_columns_may_be_missing_and_others_are_ignored() {
        let trace = read("arrival_s,input_tokens\n0.5,7\n1,\n").unwrap();
        assert_eq!(trace, Trace::at([0.5, 1.0]));
        let trace = read("model, rows ,arrival_s\na,3,0\nb,1,0\na,1,2.5\n").unwrap();
        assert_eq!(trace.models, ["a", "b"]);
        assert_eq!(trace.requests[2], TraceRequest { at: 2.5, rows: 1, model: 0, client: 0 });
    }

    #[test]
    fn errors_name_the_line() {
        for (text, wrong) in [
            ("", "the first line must name the columns"),
            ("arrival_s\n", "the trace has no requests"),
            ("arrival_s\n1\nx\n", "line 3 is not a request"),
            ("arrival_s\n2\n1\n", "before the line above"),
            ("arrival_s\n-1\n", "`arrival_s` is -1"),
            ("arrival_s\nNaN\n", "`arrival_s` is NaN"),
            ("arrival_s,rows\n1,0\n", "`rows` is 0"),
            ("arrival_s,rows\n1\n", "line 2 is not a request"),
        ] {
            let error = format!("{:#}", read(text).unwrap_err());
            assert!(error.contains(wrong), "{text:?}: {error}");
        }
    }

    #[test]
    fn the_busiest_period_is_cut_out() {
        let trace = Trace::at([0.0, 5.0, 20.0, 21.0, 22.0, 40.0]);
        assert_eq!(trace.busiest(3.0), Trace::at([0.0, 1.0, 2.0]));
        assert_eq!(trace.busiest(100.0), trace);
    }

    #[test]
    fn a_written_trace_is_read_back() {
        let models = ["a", "b, \"c\"", ""].map(str::to_owned).to_vec();
        let request = |at, model, client| TraceRequest { at, rows: 2, model, client };
        let requests = vec![request(0.0, 0, 1), request(1.25, 1, 2), request(1.25, 2, 0)];
        let trace = Trace { requests, models };
        assert_eq!(Trace::read(trace.to_csv().as_bytes()).unwrap(), trace);
    }
}
