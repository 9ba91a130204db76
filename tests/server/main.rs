//! The whole program on the `cpu` adapter, with no Vulkan driver in reach: what it answers, what
//! it refuses, how it starts and ends.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a helper that fails fails its test")]
#![allow(clippy::print_stderr, reason = "the test runner shows it with a failure")]
#![allow(clippy::disallowed_methods, reason = "tests wait in real time")]

/// Requests that are finished although the server or their model goes.
mod admitted;
/// What is wrong with a request, and what it is told.
mod bad_input;
/// Cards that no graphics API lists; names and modes of adapters.
mod cards;
/// The subcommands and the settings.
mod catalogue;
/// What changes while the server runs, and how it comes and goes.
mod changes;
/// What clients of the protocol, HTTP clients that keep connections, and browsers need.
mod clients;
mod commands;
/// What workers may do.
mod confinement;
/// Workers that are reached over TCP.
mod elsewhere;
/// Containers, limits and folders of the environment.
mod environment;
/// Clients that say when they will ask again.
mod expect;
/// Answers in parts.
mod generate;
/// Requests that are no requests, and clients that misbehave.
mod hostile;
/// The model `identity`: datatypes, batches.
mod identity;
/// The last good files of models.
mod kept;
/// What the policy learned, after a restart of the server.
mod learned;
/// Adapters on and off, workers and servers that end.
mod lifecycle;
/// Names and layouts of models.
mod names;
/// Graphs of ONNX files.
mod onnx;
/// The list of models of the OpenAI API.
mod openai;
/// The description of every route, held against the routes and their answers.
mod openapi;
/// Files in, answers out; chains of models.
mod pipelines;
/// Repositories with broken models in them.
mod repository;
/// Settings that are changed over HTTP.
mod settings;
/// Recording a trace and trying policies on it.
mod simulate;
/// Variables of the environment and arguments: their effect, and what of them workers receive.
mod startup;
/// The state of a model, and why it is so.
mod states;
/// Metrics, traces, logs, history, and the load maker.
mod telemetry;
/// Terminals and pipes: what is written to them, and what happens when they are gone.
mod terminal;
/// HTTPS: certificates, handshakes, and files that change.
mod tls;
/// The README's tour and the protocol as clients use it.
mod tour;
/// What a client cannot do whose key does not let it.
mod unprivileged;
/// Spoilt images and recordings, and bombs.
mod uploads;
/// New models that take long to load.
mod validation;
/// What a model is warmed up with.
mod warm_up;
