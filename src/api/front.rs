//! The outermost service of all routes: CORS, and compression of answers.

use crate::api::cors::Origins;
use crate::api::encoding::{self, Coding};
use crate::api::respond::Response;
use hyper::Request;
use hyper::service::Service;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;

/// A service that compresses answers where clients accept it, and that serves pages of the allowed
/// origins.
#[derive(Clone, Debug)]
pub(crate) struct Front<S> {
    inner: S,
    origins: Arc<Origins>,
}

impl<S> Front<S> {
    pub(crate) fn new(inner: S, origins: Origins) -> Front<S> {
        Front { inner, origins: Arc::new(origins) }
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
        let accepted = encoding::accepted(request.headers());
        let is_unsupported = Coding::of_request(request.headers()).is_err();
        let preflight = self.origins.preflight(request.method(), request.headers());
        let answer = preflight.map_or_else(|| Err(self.inner.call(request)), Ok);
        Box::pin(async move {
            let mut response = match answer {
                Ok(preflight) => preflight,
                Err(answer) => encoding::compressed(accepted, answer.await?).await,
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
