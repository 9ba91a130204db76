//! The routes: maps paths to handlers. A warp rejection only means that another route is tried.

use crate::context::{ApiState, Target};
use crate::http::access::Caller;
use crate::http::guard::Head;
use crate::http::respond::{Response, render, render_openai};
use crate::operator::{admin, events, expect, openapi, settings, web};
use crate::v2::generate::{self, AnswerForm};
use crate::v2::{absent, extensions, kserve, openai};
use percent_encoding::percent_decode_str;
use std::convert::Infallible;
use std::str::FromStr;
use std::sync::Arc;
use types::error::Error;
use warp::filters::BoxedFilter;
use warp::path::FullPath;
use warp::{Filter, Rejection, path};

/// The end of the error for unsupported routes of the OpenAI API.
const V1_HINT: &str = "; of the OpenAI API, this server has GET /v1/models and \
                       GET /v1/models/{model}; send requests to POST /v2/models/{model}/infer";

/// A path segment, percent-decoded. One that is not UTF-8 matches nothing.
#[derive(Debug, PartialEq, Eq)]
struct Segment(String);

impl FromStr for Segment {
    type Err = std::str::Utf8Error;

    fn from_str(segment: &str) -> Result<Segment, Self::Err> {
        Ok(Segment(percent_decode_str(segment).decode_utf8()?.into_owned()))
    }
}

/// Returns the newest version of a model.
fn by_name(Segment(name): Segment) -> Target {
    Target { name, version: None }
}

/// Returns this version of a model.
fn by_version(Segment(name): Segment, Segment(version): Segment) -> Target {
    Target { name, version: Some(version) }
}

/// Returns all routes; the last one answers everything that no other route matched.
pub(crate) fn routes(api: Arc<ApiState>) -> BoxedFilter<(Response,)> {
    let protocol = infer(&api).or(generate(&api)).unify().or(all_statistics(&api)).unify();
    let protocol = protocol.or(models(&api)).unify();
    let protocol = protocol.or(model_extensions(&api)).unify().or(repository(&api)).unify();
    let protocol = protocol.or(server(&api)).unify().or(absent(&api)).unify();
    let protocol = protocol.or(openai_models(&api)).unify().boxed();
    let operator = operator(&api).or(views(&api)).unify().boxed();
    protocol.or(operator).unify().or(pages()).unify().boxed()
}

fn with(
    api: &Arc<ApiState>,
) -> impl Filter<Extract = (Arc<ApiState>,), Error = Infallible> + Clone + use<> {
    let api = api.clone();
    warp::any().map(move || api.clone())
}

fn head() -> impl Filter<Extract = (Head,), Error = Infallible> + Clone {
    let head = warp::method().and(warp::header::headers_cloned());
    head.and(warp::ext::optional::<Caller>()).map(|method, headers, caller: Option<Caller>| {
        let address = caller.map(|caller| caller.address.ip());
        Head { method, headers, address }
    })
}

fn infer(api: &Arc<ApiState>) -> BoxedFilter<(Response,)> {
    let newest = path!("v2" / "models" / Segment / "infer").map(by_name);
    let exact = path!("v2" / "models" / Segment / "versions" / Segment / "infer");
    let target = newest.or(exact.map(by_version)).unify();
    let route = with(api).and(target).and(head()).and(warp::body::stream());
    let handler = |api: Arc<ApiState>, target, head: Head, body| async move {
        render(kserve::infer(&api, target, &head, body).await)
    };
    route.then(handler).boxed()
}

fn generate(api: &Arc<ApiState>) -> BoxedFilter<(Response,)> {
    let newest = path!("v2" / "models" / Segment / "generate").map(by_name);
    let exact = path!("v2" / "models" / Segment / "versions" / Segment / "generate");
    let whole =
        generate_at(api, newest.or(exact.map(by_version)).unify().boxed(), AnswerForm::Whole);
    let newest = path!("v2" / "models" / Segment / "generate_stream").map(by_name);
    let exact = path!("v2" / "models" / Segment / "versions" / Segment / "generate_stream");
    let events =
        generate_at(api, newest.or(exact.map(by_version)).unify().boxed(), AnswerForm::Events);
    whole.or(events).unify().boxed()
}

fn generate_at(
    api: &Arc<ApiState>,
    target: BoxedFilter<(Target,)>,
    form: AnswerForm,
) -> BoxedFilter<(Response,)> {
    let route = with(api).and(target).and(head()).and(warp::body::stream());
    let handler = move |api: Arc<ApiState>, target, head: Head, body| async move {
        render(generate::generate(&api, target, &head, body, form).await)
    };
    route.then(handler).boxed()
}

fn models(api: &Arc<ApiState>) -> BoxedFilter<(Response,)> {
    let newest = path!("v2" / "models" / Segment).map(by_name);
    let exact = path!("v2" / "models" / Segment / "versions" / Segment).map(by_version);
    let metadata = with(api).and(newest.or(exact).unify()).and(head());
    let metadata = metadata.map(|api: Arc<ApiState>, target, head| {
        render(kserve::model_metadata(&api, &target, &head))
    });
    let newest = path!("v2" / "models" / Segment / "ready").map(by_name);
    let exact = path!("v2" / "models" / Segment / "versions" / Segment / "ready");
    let ready = with(api).and(newest.or(exact.map(by_version)).unify()).and(head());
    let ready = ready
        .map(|api: Arc<ApiState>, target, head| render(kserve::model_ready(&api, &target, &head)));
    metadata.or(ready).unify().boxed()
}

/// Must precede the route of a model's metadata, which would read `stats` as a name.
fn all_statistics(api: &Arc<ApiState>) -> BoxedFilter<(Response,)> {
    let route = with(api).and(path!("v2" / "models" / "stats")).and(head());
    let handler = |api: Arc<ApiState>, head: Head| async move {
        render(extensions::statistics(&api, None, &head).await)
    };
    route.then(handler).boxed()
}

fn model_extensions(api: &Arc<ApiState>) -> BoxedFilter<(Response,)> {
    let newest = path!("v2" / "models" / Segment / "stats").map(by_name);
    let exact = path!("v2" / "models" / Segment / "versions" / Segment / "stats");
    let stats = with(api).and(newest.or(exact.map(by_version)).unify()).and(head());
    let stats = stats.then(|api: Arc<ApiState>, target, head: Head| async move {
        render(extensions::statistics(&api, Some(&target), &head).await)
    });
    let newest = path!("v2" / "models" / Segment / "config").map(by_name);
    let exact = path!("v2" / "models" / Segment / "versions" / Segment / "config");
    let config = with(api).and(newest.or(exact.map(by_version)).unify()).and(head());
    let config = config
        .map(|api: Arc<ApiState>, target, head| render(extensions::config(&api, &target, &head)));
    stats.or(config).unify().boxed()
}

fn repository(api: &Arc<ApiState>) -> BoxedFilter<(Response,)> {
    let index = with(api).and(path!("v2" / "repository" / "index")).and(head());
    let index = index.and(warp::body::stream());
    let index = index.then(|api: Arc<ApiState>, head: Head, body| async move {
        render(extensions::index(&api, &head, body).await)
    });
    let load = with(api).and(path!("v2" / "repository" / "models" / Segment / "load"));
    let load = load.and(head()).and(warp::body::stream());
    let load = load.then(|api: Arc<ApiState>, Segment(name), head: Head, body| async move {
        render(extensions::load(&api, &name, &head, body).await)
    });
    let unload = with(api).and(path!("v2" / "repository" / "models" / Segment / "unload"));
    let unload = unload.and(head()).and(warp::body::stream());
    let unload = unload.then(|api: Arc<ApiState>, Segment(name), head: Head, body| async move {
        render(extensions::unload(&api, &name, &head, body).await)
    });
    index.or(load).unify().or(unload).unify().boxed()
}

fn server(api: &Arc<ApiState>) -> BoxedFilter<(Response,)> {
    let metadata = with(api).and(path!("v2")).and(head());
    let metadata =
        metadata.map(|api: Arc<ApiState>, head| render(kserve::server_metadata(&api, &head)));
    let live = path!("v2" / "health" / "live").and(head()).map(|head| render(kserve::live(&head)));
    let ready = with(api).and(path!("v2" / "health" / "ready")).and(head());
    let ready = ready.map(|api: Arc<ApiState>, head| render(kserve::ready(&api, &head)));
    let described = with(api).and(path!("openapi.json")).and(head());
    let described = described.map(|api: Arc<ApiState>, head| render(openapi::openapi(&api, &head)));
    metadata.or(live).unify().or(ready).unify().or(described).unify().boxed()
}

fn absent(api: &Arc<ApiState>) -> BoxedFilter<(Response,)> {
    let logging = with(api).and(path!("v2" / "logging")).and(head());
    let logging = logging.map(|api: Arc<ApiState>, head| render(absent::logging(&api, &head)));
    let trace = with(api).and(path!("v2" / "trace" / "setting")).and(head());
    let trace = trace.map(|api: Arc<ApiState>, head| render(absent::trace(&api, None, &head)));
    let own = path!("v2" / "models" / Segment / "trace" / "setting").map(by_name);
    let own = with(api).and(own).and(head()).map(|api: Arc<ApiState>, target, head: Head| {
        render(absent::trace(&api, Some(&target), &head))
    });
    let shared = path!("v2" / "systemsharedmemory" / "status");
    let shared = with(api).and(shared.or(path!("v2" / "cudasharedmemory" / "status")).unify());
    let shared = shared.and(head());
    let shared = shared.map(|api: Arc<ApiState>, head| render(absent::shared_memory(&api, &head)));
    logging.or(trace).unify().or(own).unify().or(shared).unify().boxed()
}

fn openai_models(api: &Arc<ApiState>) -> BoxedFilter<(Response,)> {
    let all = with(api).and(path!("v1" / "models")).and(head());
    let all = all.map(|api: Arc<ApiState>, head| render_openai(openai::models(&api, &head)));
    let one = with(api).and(path!("v1" / "models" / Segment)).and(head());
    let one = one.map(|api: Arc<ApiState>, Segment(name), head| {
        render_openai(openai::model(&api, &name, &head))
    });
    all.or(one).unify().boxed()
}

fn views(api: &Arc<ApiState>) -> BoxedFilter<(Response,)> {
    let adapters = with(api).and(path!("api" / "adapters")).and(head());
    let adapters = adapters.map(|api: Arc<ApiState>, head| render(admin::adapters(&api, &head)));
    let decisions = with(api).and(path!("api" / "decisions")).and(head());
    let decisions = decisions.map(|api: Arc<ApiState>, head| render(admin::decisions(&api, &head)));
    let snapshot = with(api).and(path!("api" / "snapshot")).and(head());
    let snapshot = snapshot.map(|api: Arc<ApiState>, head| render(admin::snapshot(&api, &head)));
    let events = with(api).and(path!("api" / "events")).and(head());
    let events = events.map(|api: Arc<ApiState>, head| render(events::events(&api, &head)));
    let metrics = with(api).and(path!("metrics")).and(head());
    let metrics = metrics.map(|api: Arc<ApiState>, head| render(admin::metrics(&api, &head)));
    let history = with(api).and(path!("api" / "history")).and(head());
    let history = history.map(|api: Arc<ApiState>, head| render(admin::history(&api, &head)));
    let whatif = with(api).and(path!("api" / "whatif")).and(head());
    let whatif = whatif.then(|api: Arc<ApiState>, head: Head| async move {
        render(admin::whatif(&api, &head).await)
    });
    let recording = with(api).and(path!("api" / "recording")).and(head());
    let recording = recording.then(|api: Arc<ApiState>, head: Head| async move {
        render(admin::recording(&api, &head).await)
    });
    let computed = whatif.or(recording).unify();
    let reads = adapters.or(decisions).unify().or(snapshot).unify().or(history).unify();
    reads.or(events).unify().or(metrics).unify().or(computed).unify().boxed()
}

/// Routes by which an operator changes the server.
fn operator(api: &Arc<ApiState>) -> BoxedFilter<(Response,)> {
    let route = with(api).and(path!("api" / "adapters" / Segment)).and(head());
    let handler = |api: Arc<ApiState>, Segment(id), head: Head, body| async move {
        render(admin::set_mode(&api, &id, &head, body).await)
    };
    let adapters = route.and(warp::body::stream()).then(handler);
    let load = with(api).and(path!("api" / "load")).and(head()).and(warp::body::stream());
    let load = load.then(|api: Arc<ApiState>, head: Head, body| async move {
        render(admin::load(&api, &head, body).await)
    });
    let expect = with(api).and(path!("api" / "expect")).and(head()).and(warp::body::stream());
    let expect = expect.then(|api: Arc<ApiState>, head: Head, body| async move {
        render(expect::expect(&api, &head, body).await)
    });
    let live = with(api).and(path!("api" / "settings")).and(head()).and(warp::body::stream());
    let live = live.then(|api: Arc<ApiState>, head: Head, body| async move {
        render(settings::settings(&api, &head, body).await)
    });
    adapters.or(load).unify().or(expect).unify().or(live).unify().boxed()
}

/// The page's files, and 404 for all other paths.
fn pages() -> impl Filter<Extract = (Response,), Error = Rejection> + Clone {
    let route = warp::path::full().and(head()).map(|path: FullPath, head: Head| {
        let found = web::file(path.as_str(), &head);
        render(found.unwrap_or_else(|| Err(no_route(path.as_str()).into())))
    });
    route.boxed()
}

fn no_route(path: &str) -> Error {
    let shown: String = path.chars().take(100).collect();
    let hint = if path == "/v1" || path.starts_with("/v1/") { V1_HINT } else { "" };
    Error::not_found(format!("no route matches {shown}{hint}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_decoded() {
        assert_eq!("pci-0000%3a01:00.0".parse(), Ok(Segment("pci-0000:01:00.0".into())));
        assert_eq!("a+b%20c%2Fd".parse(), Ok(Segment("a+b c/d".into())));
        assert_eq!("100%".parse(), Ok(Segment("100%".into())));
        assert!("%ff".parse::<Segment>().is_err());
    }
}
