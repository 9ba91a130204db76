//! The whole program on the `cpu` adapter, without Vulkan drivers: its answers, its rejections, its
//! start and its end.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a helper that fails fails its test")]
#![allow(clippy::print_stderr, reason = "the test runner shows it with a failure")]
#![allow(clippy::disallowed_methods, reason = "tests wait in real time")]

/// Admitted requests while the server stops or their model is unloaded.
mod admitted;
/// Invalid requests, and the errors with which they are answered.
mod bad_input;
/// Measurements of a running server from a terminal.
mod bench;
/// Cards that no graphics API lists; names and modes of adapters.
mod cards;
/// Models that are loaded, unloaded and replaced while the server runs.
mod catalogue;
/// Changes of the settings while the server runs; signals and restarts.
mod changes;
/// Requirements of protocol clients, of HTTP clients that keep connections, and of browsers.
mod clients;
mod commands;
/// The rights of workers.
mod confinement;
/// The report of the machine; completions and manual pages.
mod doctor;
/// Commands of the documents, with their output.
mod documents;
/// Containers, limits and folders of the environment.
mod environment;
/// Clients that announce their next request.
mod expect;
/// Streaming of partial answers.
mod generate;
/// Malformed HTTP and clients that misbehave.
mod hostile;
/// The model `identity`: datatypes, batches.
mod identity;
/// The last good files of models.
mod kept;
/// The values that the policy learned, after a restart of the server.
mod learned;
/// Adapters on and off, workers and servers that end.
mod lifecycle;
/// Names and layouts of models.
mod names;
/// Graphs of ONNX files.
mod onnx;
/// The list of models of the OpenAI API.
mod openai;
/// The description of every route, compared with the routes and their answers.
mod openapi;
/// Files in, answers out; chains of models.
mod pipelines;
/// Workers that are reached over TCP.
mod remote_workers;
/// Repositories with broken models in them.
mod repository;
/// Settings that are changed over HTTP.
mod settings;
/// Recorded traces and the simulation of policies on them.
mod simulate;
/// Environment variables and arguments: their effect, and those that workers receive.
mod startup;
/// The states of a model with their reasons.
mod states;
/// Metrics, traces, logs, history, and the load generator.
mod telemetry;
/// Terminals and pipes: the output to them, and their end.
mod terminal;
/// HTTPS: certificates, handshakes, and files that change.
mod tls;
/// The requests of the README, and the protocol as clients use it.
mod tour;
/// Operations that a key does not permit.
mod unprivileged;
/// Corrupted images and recordings, and decompression bombs.
mod uploads;
/// New models that take long to load.
mod validation;
/// The shapes with which a model is warmed up.
mod warm_up;
