//! The link to a worker, wherever it runs: any pair of byte streams that the wire listens for.

use crate::workers::model_files::{FILES_MAX, OfferedFiles};
use crate::workers::worker_report::{Reporter, WorkerEvent};
use anyhow::bail;
use std::time::Duration;
use tokio::sync::mpsc;
use wire::server::{Listener, Outgoing, ServerReceiver, ServerSender};
use wire::{FilesRequest, FromWorker, ToWorker, VERSION, WireError};

/// The link to one worker.
pub(crate) struct Link {
    pub(crate) listener: Listener,
    pub(crate) token: String,
    pub(crate) pid: u32,
    pub(crate) heartbeat: Duration,
    pub(crate) control: mpsc::Sender<ToWorker>,
    pub(crate) files: OfferedFiles,
}

impl Link {
    /// Passes messages both ways until the link ends; returns why it did.
    pub(crate) async fn serve(
        self,
        reporter: Reporter,
        (receiver, sender): (ServerReceiver, ServerSender),
        (control, batches): (mpsc::Receiver<ToWorker>, mpsc::Receiver<Outgoing>),
    ) -> String {
        drop(self.listener);
        let (requests, wanted) = mpsc::channel(FILES_MAX);
        let (answers, files) = mpsc::channel(1);
        tokio::select! {
            error = receive(receiver, &reporter, &requests) => error.to_string(),
            () = self.files.serve(wanted, answers) => "no files can be sent".to_owned(),
            end = sender.run(control, batches, files) => match end {
                Ok(()) => "the engine has dropped the worker".to_owned(),
                Err(error) => error.to_string(),
            },
            () = ping(self.control, self.heartbeat) => "no heartbeat".to_owned(),
        }
    }

    /// Takes the worker's connection and checks that it is the one that was started.
    pub(crate) async fn open(&self) -> anyhow::Result<(ServerReceiver, ServerSender)> {
        let (mut receiver, sender) = self.listener.accept(self.pid).await?;
        let hello = receiver.receive().await?;
        let FromWorker::Hello { version, token } = hello.message else {
            bail!("the worker did not say hello");
        };
        if token != self.token {
            bail!("the worker does not know its token");
        }
        if version != VERSION {
            bail!(
                "the worker speaks {version}, the server {VERSION}: the program was replaced while \
                 the server ran; restart it"
            );
        }
        Ok((receiver, sender))
    }
}

/// Passes on what the worker says until the link ends.
async fn receive(
    mut receiver: ServerReceiver,
    reporter: &Reporter,
    files: &mpsc::Sender<FilesRequest>,
) -> WireError {
    loop {
        let whole = match receiver.receive().await {
            Ok(whole) => whole,
            Err(error) => return error,
        };
        match whole.message {
            FromWorker::Files(request) if files.try_send(request).is_err() => {
                return WireError::Malformed("too many requests for files at once");
            }
            FromWorker::Files(_) => {}
            _ => reporter.report(WorkerEvent::Message(whole)).await,
        }
    }
}

async fn ping(control: mpsc::Sender<ToWorker>, heartbeat: Duration) {
    let mut number = 0;
    while !control.is_closed() {
        let _ = control.try_send(ToWorker::Ping { number });
        number += 1;
        tokio::time::sleep(heartbeat).await;
    }
}
