//! The outermost service of all routes: CORS, the memory of answers, and their compression.

use crate::http::access::{Caller, network};
use crate::http::cors::Origins;
use crate::http::encoding::{self, Coding};
use crate::http::respond::{Response, render};
use engine::{HeldMemory, Memory};
use http_body_util::BodyExt;
use hyper::Request;
use hyper::body::Body;
use hyper::service::Service;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use types::error::Error;

/// Minimum length of an answer that is charged, in bytes; shorter ones are part of the memory of a
/// connection.
const CHARGED_BYTES_MIN: u64 = 16 * 1024;

/// A mark of answers with memory that is charged already.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ChargedMark;

/// A service that charges the memory of answers, that compresses them where clients accept it, and
/// that serves pages of the allowed origins.
#[derive(Clone, Debug)]
pub(crate) struct Front<S> {
    inner: S,
    origins: Arc<Origins>,
    memory: Memory,
}

impl<S> Front<S> {
    pub(crate) fn new(inner: S, origins: Origins, memory: Memory) -> Front<S> {
        Front { inner, origins: Arc::new(origins), memory }
    }
}

/// Charges the memory of an answer until it has been written, if its handler has not.
async fn charged(response: Response, mut held: HeldMemory) -> Response {
    let length = response.body().size_hint().exact().unwrap_or_default();
    if length < CHARGED_BYTES_MIN || response.extensions().get::<ChargedMark>().is_some() {
        return response;
    }
    if let Err(full) = held.grow(usize::try_from(length).unwrap_or(usize::MAX)) {
        return render(Err(full.of_answer().into()));
    }
    let (head, body) = response.into_parts();
    match body.collect().await {
        Ok(body) => Response::from_parts(head, held.wrap(body.to_bytes()).into()),
        Err(error) => {
            render(Err(Error::internal(format!("the answer is incomplete: {error}")).into()))
        }
    }
}

impl<S, B> Service<Request<B>> for Front<S>
where
    S: Service<Request<B>, Response = Response, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn call(&self, request: Request<B>) -> Self::Future {
        let reader = self.origins.reader(request.headers());
        let client = request.extensions().get::<Caller>().map(|caller| caller.address.ip());
        let account = self.memory.of(client.map_or(0, network));
        let accepted = encoding::accepted(request.headers());
        let is_unsupported = Coding::of_request(request.headers()).is_err();
        let preflight = self.origins.preflight(request.method(), request.headers());
        let answer = preflight.map_or_else(|| Err(self.inner.call(request)), Ok);
        Box::pin(async move {
            let mut response = match answer {
                Ok(preflight) => preflight,
                Err(answer) => {
                    let response = charged(answer.await?, account.answer()).await;
                    encoding::compressed(accepted, response, account.answer()).await
                }
            };
            if is_unsupported {
                encoding::name_supported(&mut response);
            }
            if let Some(reader) = reader {
                reader.mark(response.headers_mut());
            }
            Ok(response)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::respond::document;
    use bytes::Bytes;

    fn answer(length: usize) -> Response {
        document("text/plain", Bytes::from(vec![b'x'; length]))
    }

    #[tokio::test]
    async fn answers_are_charged_until_they_are_written() {
        let memory = Memory::new(100_000);
        let response = charged(answer(50_000), memory.of(1).answer()).await;
        assert_eq!(memory.used(), 50_000);
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!((body.len(), memory.used()), (50_000, 50_000));
        drop(body);
        assert_eq!(memory.used(), 0);
    }

    #[tokio::test]
    async fn answers_over_the_limit_are_rejected() {
        let memory = Memory::new(100_000);
        let refused = charged(answer(100_001), memory.of(1).answer()).await;
        assert_eq!((refused.status().as_u16(), memory.used()), (503, 0));
        let mut marked = answer(100_001);
        marked.extensions_mut().insert(ChargedMark);
        assert_eq!(charged(marked, memory.of(1).answer()).await.status(), 200);
    }
}
