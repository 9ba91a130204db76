//! Files of models for remote workers: listed and read outside of the server's async threads.

use bytes::Bytes;
use model::BadFile;
use model::info::ModelInfo;
use model::transfer::{PieceId, SentFiles};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc;
use wire::server::Outgoing;
use wire::{FilesAnswer, FilesRequest, ToWorker};

/// Capacity of the channel for requests; a worker requests few pieces at a time.
pub(crate) const FILES_MAX: usize = 64;

/// The models with files that a worker may request, by the engine's number.
#[derive(Clone, Default)]
pub(crate) struct OfferedFiles {
    models: Arc<Mutex<BTreeMap<u32, ModelInfo>>>,
}

impl OfferedFiles {
    /// Offers the files of a model to the worker that is to load it.
    pub(crate) fn offer(&self, model: u32, info: &ModelInfo) {
        let info = ModelInfo { labels: Vec::new(), pipeline: None, ..info.clone() };
        self.models.lock().unwrap_or_else(PoisonError::into_inner).insert(model, info);
    }

    fn take(&self, model: u32) -> Option<ModelInfo> {
        self.models.lock().unwrap_or_else(PoisonError::into_inner).remove(&model)
    }

    /// Answers one request after the other until the link ends.
    pub(crate) async fn serve(
        self,
        mut requests: mpsc::Receiver<FilesRequest>,
        answers: mpsc::Sender<Outgoing>,
    ) {
        // One transfer at a time.
        let mut listed = None;
        while let Some(request) = requests.recv().await {
            let sent = match request {
                FilesRequest::List { transfer, model } => {
                    let files = self.list(model).await;
                    let answer = list_answers(transfer, files.as_deref());
                    listed = files.ok().map(|files| (transfer, files));
                    send_all(&answers, answer).await
                }
                FilesRequest::Piece { transfer, id } => {
                    let files = listed.as_ref().filter(|(number, _)| *number == transfer);
                    let files = files.map(|(_, files)| files.clone());
                    send_all(&answers, vec![piece_answer(transfer, id, files).await]).await
                }
            };
            if sent.is_err() {
                return;
            }
        }
    }

    async fn list(&self, model: u32) -> Result<Arc<SentFiles>, BadFile> {
        let Some(info) = self.take(model) else {
            return Err(server_error(model.to_string(), "no model of this number is to be loaded"));
        };
        let name = info.name.clone();
        let listed = tokio::task::spawn_blocking(move || SentFiles::of(&info)).await;
        listed.map_err(|error| server_error(name, &error.to_string()))?.map(Arc::new)
    }
}

/// An error that is not the fault of the model, so that other adapters still load it.
fn server_error(file: String, detail: &str) -> BadFile {
    BadFile { machine: true, ..BadFile::new(file, detail) }
}

async fn send_all(
    answers: &mpsc::Sender<Outgoing>,
    all: Vec<Outgoing>,
) -> Result<(), mpsc::error::SendError<Outgoing>> {
    for outgoing in all {
        answers.send(outgoing).await?;
    }
    Ok(())
}

fn outgoing(answer: FilesAnswer, body: Bytes) -> Outgoing {
    Outgoing { message: ToWorker::Files(answer), body: vec![body] }
}

fn failed(transfer: u64, error: &BadFile) -> Outgoing {
    let answer = FilesAnswer::Failed { transfer, error: error.to_string(), machine: error.machine };
    outgoing(answer, Bytes::new())
}

fn list_answers(transfer: u64, files: Result<&SentFiles, &BadFile>) -> Vec<Outgoing> {
    let files = match files {
        Ok(files) => files.files(),
        Err(error) => return vec![failed(transfer, error)],
    };
    let file = |file: &model::transfer::ListedFile| {
        let (path, bytes) = (file.path().to_owned(), file.bytes());
        outgoing(FilesAnswer::File { transfer, path, bytes }, file.hashes().into())
    };
    let mut all: Vec<Outgoing> = files.iter().map(file).collect();
    all.push(outgoing(FilesAnswer::Listed { transfer }, Bytes::new()));
    all
}

async fn piece_answer(transfer: u64, id: PieceId, files: Option<Arc<SentFiles>>) -> Outgoing {
    let Some(files) = files else {
        return failed(transfer, &server_error(format!("{id:?}"), "was not listed"));
    };
    let read = tokio::task::spawn_blocking(move || files.piece(id)).await;
    match read {
        Ok(Ok(piece)) => {
            let bytes = piece.len() as u64;
            outgoing(FilesAnswer::Piece { transfer, id, bytes }, piece)
        }
        Ok(Err(error)) => failed(transfer, &error),
        Err(error) => failed(transfer, &server_error(format!("{id:?}"), &error.to_string())),
    }
}
