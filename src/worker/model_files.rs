//! Files of models for a remote worker. They are received before the model is loaded, in a separate
//! thread, so that neither pings nor batches wait for a disk.

use super::compute::ComputeJob;
use anyhow::Context;
use bytes::Bytes;
use model::ModelSource;
use model::transfer::{ListedFile, ReceivedVersions, Transfer, TransferError};
use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::{Duration, Instant};
use types::clock;
use wire::client::WorkerSender;
use wire::{Cause, FilesAnswer, FilesRequest, FromWorker, LoadRequest, ToWorker, WorkerSpec};

/// Folder inside the cache folder of the adapter.
const FOLDER: &str = "models";
/// Number of pieces that are requested at the same time, to hide the round-trip time.
const WINDOW: usize = 4;
/// Interval of progress reports.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(500);

/// Load requests that wait for the files of their models.
pub(super) struct ModelFiles {
    versions: ReceivedVersions,
    sender: WorkerSender,
    jobs: SyncSender<ComputeJob>,
    /// Waiting requests; the files of the first one are being received.
    waiting: VecDeque<LoadRequest>,
    /// Number of the current transfer.
    number: u64,
    /// Files of the current transfer, while the list is being received.
    listed: Vec<ListedFile>,
    transfer: Option<Transfer>,
    reported: Instant,
}

/// The reason why the files of a model cannot be received.
struct Failure {
    cause: Cause,
    error: String,
}

impl From<TransferError> for Failure {
    fn from(error: TransferError) -> Failure {
        Failure { cause: Cause::Machine, error: error.to_string() }
    }
}

impl ModelFiles {
    pub(super) fn new(
        spec: &WorkerSpec,
        sender: WorkerSender,
        jobs: SyncSender<ComputeJob>,
    ) -> ModelFiles {
        ModelFiles {
            versions: ReceivedVersions::new(spec.cache_dir.join(FOLDER), spec.models_bytes),
            sender,
            jobs,
            waiting: VecDeque::new(),
            number: 0,
            listed: Vec::new(),
            transfer: None,
            reported: clock::now(),
        }
    }

    /// Handles messages until the link or the compute thread ends.
    pub(super) fn serve(mut self, messages: &Receiver<(ToWorker, Bytes)>) -> anyhow::Result<()> {
        while let Ok((message, body)) = messages.recv() {
            match message {
                // An embedded model is a part of the program, so that it has no files.
                ToWorker::Load(load) if load.info.source == ModelSource::Embedded => {
                    self.forward(ComputeJob::new(ToWorker::Load(load), body))?;
                }
                ToWorker::Load(load) => {
                    self.waiting.push_back(*load);
                    if self.waiting.len() == 1 {
                        self.begin()?;
                    }
                }
                ToWorker::Unload { model } => self.unload(model)?,
                ToWorker::Files(answer) => self.answered(answer, &body)?,
                other => self.forward(ComputeJob::new(other, body))?,
            }
        }
        Ok(())
    }

    fn forward(&self, job: ComputeJob) -> anyhow::Result<()> {
        self.jobs.try_send(job).context("the compute thread ended or its channel is full")
    }

    fn send_request(&self, request: FilesRequest) -> anyhow::Result<()> {
        Ok(self.sender.send(FromWorker::Files(request))?)
    }

    /// Requests the list of files for the first waiting load. Later messages of other transfers are
    /// dropped.
    fn begin(&mut self) -> anyhow::Result<()> {
        self.number += 1;
        self.listed.clear();
        self.transfer = None;
        let Some(load) = self.waiting.front() else { return Ok(()) };
        let request = FilesRequest::List { transfer: self.number, model: load.model };
        self.report(format!("listing the files of {}", load.info.name))?;
        self.send_request(request)
    }

    /// Removes waiting loads of a model and forwards the message, since the model may be loaded
    /// already.
    fn unload(&mut self, model: u32) -> anyhow::Result<()> {
        let is_first = self.waiting.front().is_some_and(|load| load.model == model);
        self.waiting.retain(|load| load.model != model);
        self.forward(ComputeJob::new(ToWorker::Unload { model }, Bytes::new()))?;
        if is_first { self.begin() } else { Ok(()) }
    }

    fn answered(&mut self, answer: FilesAnswer, body: &[u8]) -> anyhow::Result<()> {
        // Answers to a transfer that was given up may still be on their way.
        if answer.transfer() != self.number || self.waiting.is_empty() {
            return Ok(());
        }
        match self.take(answer, body) {
            Ok(requests) => {
                requests.into_iter().try_for_each(|request| self.send_request(request))?
            }
            Err(failure) => return self.fail(failure),
        }
        let is_complete = self.transfer.as_ref().is_some_and(|it| it.missing_pieces() == 0);
        if is_complete { self.finish() } else { self.report_progress() }
    }

    /// Processes one answer; returns the next requests.
    fn take(&mut self, answer: FilesAnswer, body: &[u8]) -> Result<Vec<FilesRequest>, Failure> {
        match answer {
            FilesAnswer::File { path, bytes, .. } => {
                let file = ListedFile::new(path.clone(), bytes, body).ok_or_else(|| Failure {
                    cause: Cause::Machine,
                    error: format!("{path}: invalid entry in the server's list"),
                })?;
                self.listed.push(file);
                Ok(Vec::new())
            }
            FilesAnswer::Listed { .. } => {
                let transfer = self.versions.begin(std::mem::take(&mut self.listed))?;
                let requests = (0..WINDOW).filter_map(|nth| self.request(&transfer, nth)).collect();
                self.transfer = Some(transfer);
                Ok(requests)
            }
            FilesAnswer::Piece { id, .. } => {
                let Some(mut transfer) = self.transfer.take() else { return Ok(Vec::new()) };
                transfer.put(id, body)?;
                // The `WINDOW - 1` missing pieces before this one have already been requested.
                let requests = self.request(&transfer, WINDOW - 1).into_iter().collect();
                self.transfer = Some(transfer);
                Ok(requests)
            }
            FilesAnswer::Failed { error, machine, .. } => {
                let cause = if machine { Cause::Machine } else { Cause::Model };
                Err(Failure { cause, error })
            }
        }
    }

    fn request(&self, transfer: &Transfer, nth: usize) -> Option<FilesRequest> {
        let id = transfer.missing(nth)?;
        Some(FilesRequest::Piece { transfer: self.number, id })
    }

    /// Forwards the load request of a model after its files are received, and begins the next
    /// transfer.
    fn finish(&mut self) -> anyhow::Result<()> {
        let Some(transfer) = self.transfer.take() else { return Ok(()) };
        let version = match self.versions.finish(transfer) {
            Ok(version) => version,
            Err(error) => return self.fail(error.into()),
        };
        if let Some(mut load) = self.waiting.pop_front() {
            load.info.source = version.source();
            self.forward(ComputeJob::load(load, version))?;
        }
        self.begin()
    }

    fn fail(&mut self, failure: Failure) -> anyhow::Result<()> {
        let Failure { cause, error } = failure;
        if let Some(LoadRequest { model, .. }) = self.waiting.pop_front() {
            self.sender.send(FromWorker::LoadFailed { model, rows: 0, cause, error })?;
        }
        self.begin()
    }

    fn report_progress(&mut self) -> anyhow::Result<()> {
        let Some(transfer) = self.transfer.as_ref() else { return Ok(()) };
        if self.reported.elapsed() < PROGRESS_INTERVAL {
            return Ok(());
        }
        let name = self.waiting.front().map_or("", |load| &load.info.name);
        let doing = format!("receiving {name}, {} MB left", transfer.missing_pieces());
        self.report(doing)
    }

    fn report(&mut self, doing: String) -> anyhow::Result<()> {
        self.reported = clock::now();
        Ok(self.sender.send(FromWorker::Progress { doing })?)
    }
}
