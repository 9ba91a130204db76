//! What an ONNX file takes and gives, without its weights being touched: the serving process reads
//! this, workers hold themselves to it.

use crate::model::files::{BadFile, Files};
use crate::model::repository::ModelInfo;
use crate::model::signature::{Signature, TensorSpec};
use crate::onnx::{Dim, ModelFile, Port, Sort};
use std::collections::BTreeMap;

/// The kind's name in `model.toml`.
pub const KIND: &str = "onnx";
/// Name of the file in a model's or a version's folder.
pub(crate) const FILE: &str = "model.onnx";
/// Length of variable axes of images while a model warms up.
const IMAGE_EDGE: usize = 64;
/// Length of other variable axes while a model warms up.
const LENGTH: usize = 16;

/// How rows become runs of the graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rows {
    /// The graph's first axis is theirs: one run for all.
    Stacked,
    /// The graph takes exactly one: a run for each, on a first axis of length 1.
    Each,
    /// The graph knows no rows: a run for each, without an axis for them.
    Whole,
}

/// Reads a graph; external data are looked for beside it. Without `weights`, only what it takes and
/// gives is good for anything.
///
/// # Errors
/// Naming the file and what is wrong with it.
pub(crate) fn read(files: &Files, name: &str, weights: bool) -> Result<ModelFile, BadFile> {
    let bad = |detail: String| BadFile::new(files.path_of(name), detail);
    let beside: &dyn Fn(&str) -> _ =
        &|name| files.source_of(name).map_err(|error| error.to_string());
    ModelFile::read(files.source_of(name)?, weights.then_some(beside)).map_err(bad)
}

/// Puts what the graph says into what `model.toml` left open. `rows_open`: whether it says nothing
/// of the rows of a batch.
///
/// # Errors
/// Naming the file and what is wrong with it.
pub(crate) fn complete(
    info: &mut ModelInfo,
    files: &Files,
    rows_open: bool,
) -> Result<(), BadFile> {
    let name = info.graph_file();
    let file = read(files, &name, false)?;
    let bad = |detail: String| BadFile::new(files.path_of(&name), detail);
    let (own, rows) = of(&file).map_err(bad)?;
    if info.signature.inputs.is_empty() {
        info.signature = own;
    } else {
        narrows(&info.signature, &own).map_err(bad)?;
    }
    // A batch of runs one after the other would only make the first wait for the last.
    if rows_open && rows != Rows::Stacked {
        info.batch.max_rows = 1;
    }
    Ok(())
}

/// The signature, and what its rows are to the graph.
///
/// # Errors
/// If an input or output has no type or number of dimensions, or one that clients cannot send.
pub(crate) fn of(file: &ModelFile) -> Result<(Signature, Rows), String> {
    let graph = &file.graph;
    let rows = rows(&graph.inputs, &graph.outputs);
    let spec = |port: &Port| spec(port, rows).map_err(|error| format!("'{}': {error}", port.name));
    let inputs = graph.inputs.iter().map(spec).collect::<Result<Vec<_>, _>>()?;
    let outputs = graph.outputs.iter().map(spec).collect::<Result<Vec<_>, _>>()?;
    if inputs.is_empty() || outputs.is_empty() {
        return Err("the graph has no inputs or no outputs".to_owned());
    }
    let warm_up = inputs.iter().map(|spec| (spec.name.clone(), typical(spec)));
    let warm_up: BTreeMap<_, _> = warm_up.collect();
    Ok((Signature { inputs, outputs, warm_up }, rows))
}

/// Whether a signature of `model.toml` is the graph's, or says more about its variable lengths.
pub(crate) fn narrows(written: &Signature, own: &Signature) -> Result<(), String> {
    for (field, written, own) in
        [("inputs", &written.inputs, &own.inputs), ("outputs", &written.outputs, &own.outputs)]
    {
        if written.len() != own.len() {
            let (says, has) = (written.len(), own.len());
            return Err(format!("model.toml states {says} {field}, but the graph has {has}"));
        }
        for (written, own) in written.iter().zip(own) {
            let shapes = written.shape.len() == own.shape.len()
                && written.shape.iter().zip(&own.shape).all(|(a, b)| a == b || *b < 0);
            if written.name != own.name || written.datatypes != own.datatypes || !shapes {
                return Err(format!(
                    "model.toml states the {field} {} {:?}, but the graph's is {} {:?}",
                    written.name, written.shape, own.name, own.shape
                ));
            }
        }
    }
    Ok(())
}

fn rows(inputs: &[Port], outputs: &[Port]) -> Rows {
    let first = |port: &Port| port.dims.as_ref().and_then(|dims| dims.first().cloned());
    let mut lengths = inputs.iter().chain(outputs).map(first);
    let open = |dim: &Option<Dim>| matches!(dim, Some(Dim::Named(_) | Dim::Unknown));
    let one = |dim: &Option<Dim>| matches!(dim, Some(Dim::Fixed(1)));
    let (lengths, named) = (lengths.by_ref().collect::<Vec<_>>(), inputs.first().and_then(first));
    // A name that stands for other axes too is the length of something, not of a batch.
    let elsewhere = inputs.iter().filter_map(|port| port.dims.as_ref()).any(|dims| {
        let behind = dims.iter().skip(1);
        behind.into_iter().any(|dim| matches!(dim, Dim::Named(_)) && Some(dim) == named.as_ref())
    });
    if lengths.iter().all(open) && !elsewhere {
        Rows::Stacked
    } else if lengths.iter().all(one) {
        Rows::Each
    } else {
        Rows::Whole
    }
}

fn spec(port: &Port, rows: Rows) -> Result<TensorSpec, String> {
    if port.sort != Sort::Tensor {
        return Err("sequences and optional values cannot be sent or answered".to_owned());
    }
    let elem = port.elem.ok_or("the file does not say its type")?;
    let none = || format!("{elem} has no name in the protocol");
    let datatype = elem.datatype().ok_or_else(none)?;
    let dims = port.dims.as_ref().ok_or("the file does not say how many dimensions it has")?;
    let skipped = usize::from(rows != Rows::Whole);
    let length = |dim: &Dim| match dim {
        Dim::Fixed(length) => i64::try_from(*length).unwrap_or(-1),
        Dim::Named(_) | Dim::Unknown => -1,
    };
    let shape = dims.iter().skip(skipped).map(length).collect();
    Ok(TensorSpec { name: port.name.clone(), datatypes: vec![datatype], shape })
}

/// A shape for the warm-up: real ones come with the first requests.
fn typical(spec: &TensorSpec) -> Vec<usize> {
    let image = spec.shape.len() == 3;
    let open = if image { IMAGE_EDGE } else { LENGTH };
    spec.shape.iter().map(|dim| usize::try_from(*dim).unwrap_or(open)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::Elem;

    fn port(name: &str, dims: &[Dim]) -> Port {
        let (sort, elem) = (Sort::Tensor, Some(Elem::F32));
        Port { name: name.into(), sort, elem, dims: Some(dims.to_vec()) }
    }

    #[test]
    fn the_first_axis_is_that_of_rows_only_if_it_can_be() {
        let named = |name: &str| Dim::Named(name.into());
        let (n, one, ten) = (named("n"), Dim::Fixed(1), Dim::Fixed(10));
        let of = |x: &[&Dim], y: &[&Dim]| {
            let port = |name, dims: &[&Dim]| {
                port(name, &dims.iter().map(|dim| (*dim).clone()).collect::<Vec<_>>())
            };
            rows(&[port("x", x)], &[port("y", y)])
        };
        let (m, unknown) = (named("m"), Dim::Unknown);
        assert_eq!(of(&[&n, &ten], &[&n]), Rows::Stacked);
        assert_eq!(of(&[&unknown], &[&m]), Rows::Stacked);
        assert_eq!(of(&[&one, &ten], &[&one]), Rows::Each);
        assert_eq!(of(&[&ten], &[&ten]), Rows::Whole);
        assert_eq!(of(&[&n, &n], &[&n]), Rows::Whole);
        assert_eq!(of(&[&n], &[]), Rows::Whole);
        assert_eq!(of(&[], &[&n]), Rows::Whole);
        assert_eq!(of(&[&one], &[&ten]), Rows::Whole);
    }

    #[test]
    fn what_clients_cannot_send_is_said() {
        let error = |port: Port| spec(&port, Rows::Stacked).unwrap_err();
        let mut unknown = port("x", &[Dim::Unknown]);
        unknown.elem = None;
        assert!(error(unknown).contains("its type"));
        let mut shapeless = port("x", &[]);
        shapeless.dims = None;
        assert!(error(shapeless).contains("how many dimensions"));
        let mut tiny = port("x", &[Dim::Unknown]);
        tiny.elem = Some(Elem::F8E5m2);
        assert_eq!(error(tiny), "float8e5m2 has no name in the protocol");
    }
}
