//! The signature of an ONNX file, read without its weights: names, types and shapes of its inputs
//! and outputs, and its row mode.

use crate::files::{BadFile, Detail, Files};
use crate::info::ModelInfo;
use crate::signature::{RowMode, Signature, TensorSpec};
use graph::{Dim, InferredLength, ModelFile, OnnxError, Port, RowProof, Sort, prove};

/// The name of the kind in `model.toml`.
pub const KIND: &str = "onnx";
/// Length of variable axes of images in the warm-up.
const IMAGE_EDGE: usize = 64;
/// Length of other variable axes in the warm-up.
const LENGTH: usize = 16;
/// Most initialisers that a request may override.
const OVERRIDES_MAX: usize = 8;

/// Reads a graph; external data are read from its folder. Without `weights`, only the inputs and
/// outputs of the result are valid.
///
/// # Errors
/// If the file is invalid, with its name and the cause.
pub fn read(files: &Files, name: &str, weights: bool) -> Result<ModelFile, BadFile> {
    let beside = |name: &str| {
        files.source_of(name).map_err(|error| match error.machine {
            true => OnnxError::machine(error.to_string()),
            false => OnnxError::invalid(error.to_string()),
        })
    };
    let beside: Option<&dyn Fn(&str) -> _> = if weights { Some(&beside) } else { None };
    let file = ModelFile::read(files.source_of(name)?, beside);
    let file = file.and_then(|file| file.check_operators().map(|()| file));
    file.map_err(|error| BadFile::new(files.path_of(name), error))
}

/// Checks that files with external data exist and are long enough, without reading them.
fn check_external(files: &Files, file: &ModelFile) -> Result<(), BadFile> {
    for (path, needed) in &file.external {
        let found = files.length(path)?;
        if found < *needed {
            let detail = format!("has {found} bytes, but the graph takes {needed} from it");
            return Err(BadFile::new(files.path_of(path), detail));
        }
    }
    Ok(())
}

/// Completes the description of a model with its graph: the signature and the row mode. `stated` is
/// the mode in `model.toml`; `by_row`: the steps around the graph work on single rows.
///
/// # Errors
/// If the file is invalid, with its name and the cause.
pub(crate) fn complete(
    info: &mut ModelInfo,
    files: &Files,
    stated: Option<RowMode>,
    by_row: bool,
) -> Result<(), BadFile> {
    let name = info.graph_file();
    let file = read(files, &name, false)?;
    check_external(files, &file)?;
    info.graph.beside = file.external.keys().cloned().collect();
    let bad = |detail: Detail| BadFile::new(files.path_of(&name), detail);
    let own = signature_of(&file, stated, by_row).map_err(bad)?;
    if info.labels.is_empty() {
        info.labels = file.class_names();
    }
    let written = std::mem::take(&mut info.signature);
    info.signature = if written.inputs.is_empty() {
        own.signature
    } else {
        narrowed(written, own.signature).map_err(bad)?
    };
    info.rows_reason = own.reason;
    Ok(())
}

/// The signature of a graph, and the reason for its row mode.
pub struct GraphSignature {
    pub signature: Signature,
    pub reason: String,
}

/// # Errors
/// If an input or output has no type, or a type that the protocol lacks, or if `stated` is not
/// possible for this graph.
pub fn of(file: &ModelFile, stated: Option<RowMode>) -> Result<GraphSignature, Detail> {
    signature_of(file, stated, false)
}

fn signature_of(
    file: &ModelFile,
    stated: Option<RowMode>,
    by_row: bool,
) -> Result<GraphSignature, Detail> {
    let graph = &file.graph;
    let proof = prove(file);
    let Rows { mode, exact, reason } = match stated {
        Some(mode) => stated_rows(file, &proof, mode)?,
        None => found_rows(file, &proof, by_row),
    };
    let named = |port: &Port, error: Detail| Detail::from(format!("'{}': {error}", port.name));
    let input = |port: &Port| spec(port, mode, None).map_err(|error| named(port, error));
    let mut inputs = graph.inputs.iter().map(input).collect::<Result<Vec<_>, _>>()?;
    for port in overrides(file) {
        inputs.push(TensorSpec { optional: true, ..input(port)? });
    }
    let outputs = graph.outputs.iter().zip(&proof.outputs).map(|(port, known)| {
        spec(port, mode, known.as_deref()).map_err(|error| named(port, error))
    });
    let outputs = outputs.collect::<Result<Vec<_>, _>>()?;
    if outputs.is_empty() {
        return Err("the graph has no outputs".into());
    }
    let warm_up = inputs.iter().map(|spec| (spec.name.clone(), typical(spec, mode))).collect();
    let signature = Signature {
        inputs,
        outputs,
        warm_up,
        rows: mode,
        exact,
        output_hints: true,
        ..Signature::default()
    };
    Ok(GraphSignature { signature, reason })
}

/// The row mode of a graph.
#[derive(Debug, PartialEq)]
struct Rows {
    mode: RowMode,
    /// See [`Signature::exact`].
    exact: bool,
    reason: String,
}

impl Rows {
    fn of(mode: RowMode, reason: impl Into<String>) -> Rows {
        Rows { mode, exact: false, reason: reason.into() }
    }
}

/// Returns true if the first axes of the inputs allow a mode.
fn is_possible(inputs: &[Port], mode: RowMode) -> bool {
    let all = |fits: fn(Option<&Dim>) -> bool| {
        !inputs.is_empty() && inputs.iter().all(|port| fits(first(port).as_ref()))
    };
    match mode {
        RowMode::Stacked => all(is_open),
        RowMode::Each => all(|dim| is_open(dim) || is_one(dim)),
        RowMode::Whole => true,
    }
}

fn stated_rows(file: &ModelFile, proof: &RowProof, mode: RowMode) -> Result<Rows, Detail> {
    if !is_possible(&file.graph.inputs, mode) {
        let mode = mode.as_str();
        let what = format!("rows: \"{mode}\" needs inputs with an open first axis");
        return Err(format!("{what}; use \"whole\"").into());
    }
    // Padding rows would change scales that a graph computes over a whole batch.
    let exact = mode == RowMode::Stacked && proof.obstacle.is_some();
    Ok(Rows { exact, ..Rows::of(mode, "set in model.toml") })
}

/// The initialisers that a request may override. Old exporters list every weight as an input, so a
/// large number of them is not meant for clients.
fn overrides(file: &ModelFile) -> &[Port] {
    let listed = &file.graph.overridable;
    if listed.len() > OVERRIDES_MAX { &[] } else { listed }
}

/// Rows are stacked only if the graph keeps them independent. `by_row`: without a proof, the steps
/// around the graph need runs of single rows, if the graph accepts them.
fn found_rows(file: &ModelFile, proof: &RowProof, by_row: bool) -> Rows {
    let mut rows = proved_rows(file, proof);
    let each = is_possible(&file.graph.inputs, RowMode::Each);
    if by_row && rows.mode == RowMode::Whole && each {
        rows.mode = RowMode::Each;
    }
    rows
}

fn proved_rows(file: &ModelFile, proof: &RowProof) -> Rows {
    if !overrides(file).is_empty() {
        return Rows::of(RowMode::Whole, "requests may give values of initialisers");
    }
    if let Some(reason) = no_rows(&file.graph.inputs) {
        let one = |known: &Option<Vec<InferredLength>>| {
            known.as_ref().is_some_and(|known| known.first() == Some(&InferredLength::Fixed(1)))
        };
        let inputs = &file.graph.inputs;
        let each = !inputs.is_empty()
            && inputs.iter().all(|port| is_one(first(port).as_ref()))
            && proof.outputs.iter().all(one);
        return match each {
            true => Rows::of(RowMode::Each, "the graph takes one row"),
            false => Rows::of(RowMode::Whole, reason),
        };
    }
    match &proof.obstacle {
        None => {
            Rows::of(RowMode::Stacked, "the graph keeps rows apart: proved operator by operator")
        }
        Some(obstacle) => {
            Rows::of(RowMode::Whole, format!("rows may depend on each other: {obstacle}"))
        }
    }
}

/// The reason why the first axis of the inputs cannot be that of the rows.
fn no_rows(inputs: &[Port]) -> Option<String> {
    let Some(port) = inputs.first() else { return Some("the graph has no inputs".into()) };
    if let Some(fixed) = inputs.iter().find(|port| !is_open(first(port).as_ref())) {
        return Some(format!("the first axis of input '{}' is not open", fixed.name));
    }
    let name = first(port);
    if let Some(other) = inputs.iter().find(|port| first(port) != name) {
        return Some(format!(
            "the first axes of inputs '{}' and '{}' have different names",
            port.name, other.name
        ));
    }
    // A name that other axes have too is a length, not a batch size.
    let mut behind = inputs.iter().filter_map(|port| port.dims.as_ref()?.get(1..)).flatten();
    let elsewhere = behind.any(|dim| matches!(dim, Dim::Named(_)) && Some(dim) == name.as_ref());
    elsewhere.then(|| "the first axis has the name of another axis".to_owned())
}

/// Returns true if the file leaves the first axis of every input and output open, with at most one
/// name among the inputs: it then means a batch.
pub fn names_rows(file: &ModelFile) -> bool {
    let outputs = file.graph.outputs.iter();
    no_rows(&file.graph.inputs).is_none() && outputs.map(first).all(|dim| is_open(dim.as_ref()))
}

fn first(port: &Port) -> Option<Dim> {
    port.dims.as_ref().and_then(|dims| dims.first().cloned())
}

fn is_open(dim: Option<&Dim>) -> bool {
    matches!(dim, Some(Dim::Named(_) | Dim::Unknown))
}

fn is_one(dim: Option<&Dim>) -> bool {
    matches!(dim, Some(Dim::Fixed(1)))
}

/// Checks and completes a signature in `model.toml` that fixes lengths which the graph leaves open.
///
/// # Errors
/// If it contradicts the graph. Shapes of outputs are hints and may contradict it.
fn narrowed(mut written: Signature, own: Signature) -> Result<Signature, Detail> {
    // Inputs that a request may omit need not be in `model.toml`.
    let unnamed = own.inputs.get(written.inputs.len()..).unwrap_or_default();
    if unnamed.iter().all(|spec| spec.optional) {
        written.inputs.extend_from_slice(unnamed);
    }
    for (field, written, own) in
        [("inputs", &written.inputs, &own.inputs), ("outputs", &written.outputs, &own.outputs)]
    {
        if written.len() != own.len() {
            let (stated, has) = (written.len(), own.len());
            let what = format!("model.toml states {stated} {field}, but the graph has {has}");
            return Err(what.into());
        }
    }
    for (spec, own_spec) in written.inputs.iter_mut().zip(&own.inputs) {
        // The shape of a row, if the graph's first axis is assumed to be that of the rows.
        let row = own.rows == RowMode::Whole
            && own_spec.shape.len() == spec.shape.len() + 1
            && own_spec.shape.first() == Some(&-1);
        if row {
            spec.shape.insert(0, -1);
            written.warm_up.entry(spec.name.clone()).and_modify(|shape| shape.insert(0, 1));
        }
        let open = |(a, b): (&i64, &i64)| a == b || *b < 0;
        let shapes = own_spec.any_rank
            || (spec.shape.len() == own_spec.shape.len()
                && spec.shape.iter().zip(&own_spec.shape).all(open));
        check_narrows("input", spec, own_spec, shapes)?;
        spec.any_rank = false;
        spec.optional = own_spec.optional;
    }
    for (spec, own_spec) in written.outputs.iter().zip(&own.outputs) {
        check_narrows("output", spec, own_spec, true)?;
    }
    for (name, shape) in &own.warm_up {
        written.warm_up.entry(name.clone()).or_insert_with(|| shape.clone());
    }
    Ok(Signature {
        inputs: written.inputs,
        warm_up: written.warm_up,
        warm_up_stated: written.warm_up_stated,
        ..own
    })
}

/// Checks that a signature matches the loaded graph: the file may have changed since it was listed.
///
/// # Errors
/// If the names or types of inputs or outputs differ.
pub fn check_names(signature: &Signature, file: &ModelFile) -> Result<(), OnnxError> {
    let inputs = file.graph.inputs.iter().chain(overrides(file)).collect::<Vec<_>>();
    for (field, specs, ports) in [
        ("inputs", &signature.inputs, inputs),
        ("outputs", &signature.outputs, file.graph.outputs.iter().collect()),
    ] {
        let same = |(spec, port): (&TensorSpec, &&Port)| {
            let datatype = port.elem.and_then(|elem| elem.datatype());
            spec.name == port.name && datatype == Some(spec.datatype())
        };
        if specs.len() != ports.len() || !specs.iter().zip(&ports).all(same) {
            let what = format!("the {field} of the graph are not those that it was listed with");
            return Err(OnnxError::invalid(what));
        }
    }
    Ok(())
}

fn check_narrows(
    field: &str,
    written: &TensorSpec,
    own: &TensorSpec,
    shapes: bool,
) -> Result<(), Detail> {
    if written.name == own.name && written.datatypes == own.datatypes && shapes {
        return Ok(());
    }
    let what = format!(
        "model.toml states the {field} {} {:?}, but the graph's is {} {:?}",
        written.name, written.shape, own.name, own.shape
    );
    Err(what.into())
}

/// The specification of an input or output. `known` is the shape from inference over the graph; it
/// has precedence where the file states nothing or contradicts it.
fn spec(
    port: &Port,
    mode: RowMode,
    known: Option<&[InferredLength]>,
) -> Result<TensorSpec, Detail> {
    if !matches!(port.sort, Sort::Tensor | Sort::OptionalTensor) {
        return Err("sequences cannot be sent or answered".into());
    }
    let elem = port.elem.ok_or("the file does not state its type")?;
    let none = || format!("{elem} has no name in the protocol");
    let datatype = elem.datatype().ok_or_else(none)?;
    let skipped = usize::from(mode != RowMode::Whole);
    let Some(shape) = shape(port.dims.as_deref(), known) else {
        let spec = TensorSpec::new(port.name.clone(), vec![datatype], Vec::new());
        let optional = port.sort == Sort::OptionalTensor;
        return Ok(TensorSpec { any_rank: true, optional, ..spec });
    };
    let shape = shape.get(skipped..).unwrap_or_default().to_vec();
    let spec = TensorSpec::new(port.name.clone(), vec![datatype], shape);
    Ok(TensorSpec { optional: port.sort == Sort::OptionalTensor, ..spec })
}

/// The dimensions of a port, -1 for open or unknown lengths; `None` if their number is unknown.
fn shape(dims: Option<&[Dim]>, known: Option<&[InferredLength]>) -> Option<Vec<i64>> {
    let fixed = |length: usize| i64::try_from(length).unwrap_or(-1);
    let proved = |known: &InferredLength| match known {
        InferredLength::Fixed(length) => fixed(*length),
        InferredLength::Open => -1,
    };
    let stated = |dim: &Dim| match dim {
        Dim::Fixed(length) => fixed(*length),
        Dim::Named(_) | Dim::Unknown => -1,
    };
    Some(match (dims, known) {
        (None, None) => return None,
        (Some(dims), None) => dims.iter().map(stated).collect(),
        (Some(dims), Some(known)) if dims.len() == known.len() => {
            let both = dims.iter().zip(known).map(|(dim, known)| match dim {
                Dim::Unknown => proved(known),
                dim if stated(dim) == proved(known) => stated(dim),
                _ => -1,
            });
            both.collect()
        }
        (_, Some(known)) => known.iter().map(proved).collect(),
    })
}

/// A shape for the warm-up, without the axis of the rows: the first requests bring real shapes.
fn typical(spec: &TensorSpec, mode: RowMode) -> Vec<usize> {
    let own = spec.shape.len() + usize::from(mode != RowMode::Whole);
    let open = if own == 4 { IMAGE_EDGE } else { LENGTH };
    let length = |(axis, dim): (usize, &i64)| {
        // The first axis of a model that runs whole requests is most often a batch after all.
        let batch = axis == 0 && mode == RowMode::Whole && own > 1;
        usize::try_from(*dim).unwrap_or(if batch { 1 } else { open })
    };
    spec.shape.iter().enumerate().map(length).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use graph::Elem;

    fn port(name: &str, dims: &[Dim]) -> Port {
        let (sort, elem) = (Sort::Tensor, Some(Elem::F32));
        Port { name: name.into(), sort, elem, dims: Some(dims.to_vec()) }
    }

    #[test]
    fn first_axes_are_rows_only_if_open_and_of_one_name() {
        let named = |name: &str| Dim::Named(name.into());
        let (n, m, one) = (named("n"), named("m"), Dim::Fixed(1));
        let of = |inputs: &[&[&Dim]]| {
            let dims = |dims: &&[&Dim]| dims.iter().map(|dim| (*dim).clone()).collect::<Vec<_>>();
            let ports: Vec<Port> =
                inputs.iter().map(|port_dims| port("x", &dims(port_dims))).collect();
            no_rows(&ports)
        };
        assert_eq!(of(&[&[&n, &one]]), None);
        assert_eq!(of(&[&[&Dim::Unknown], &[&Dim::Unknown, &one]]), None);
        assert_eq!(of(&[&[&n], &[&n, &m]]), None);
        assert!(of(&[&[&n], &[&m]]).unwrap().contains("different names"));
        assert!(of(&[&[&one, &n]]).unwrap().contains("not open"));
        assert!(of(&[&[&n, &n]]).unwrap().contains("name of another"));
        assert!(of(&[&[]]).unwrap().contains("not open"));
        assert!(of(&[]).unwrap().contains("no inputs"));
    }

    #[test]
    fn inferred_output_shapes_replace_stated_ones() {
        let (named, unknown) = (Dim::Named("n".into()), Dim::Unknown);
        let known = [InferredLength::Open, InferredLength::Fixed(3)];
        let of = |dims: &[Dim]| shape(Some(dims), Some(&known)).unwrap();
        assert_eq!(of(&[named.clone(), Dim::Fixed(3)]), [-1, 3]);
        assert_eq!(of(&[Dim::Fixed(12_800), Dim::Fixed(4)]), [-1, -1]);
        assert_eq!(of(&[named, unknown]), [-1, 3]);
        assert_eq!(of(&[]), [-1, 3]);
        assert_eq!(shape(None, Some(&known)), Some(vec![-1, 3]));
        assert_eq!(shape(None, None), None);
    }

    #[test]
    fn types_without_a_protocol_name_are_errors() {
        let error = |port: Port| spec(&port, RowMode::Stacked, None).unwrap_err().to_string();
        let mut unknown = port("x", &[Dim::Unknown]);
        unknown.elem = None;
        assert!(error(unknown).contains("its type"));
        let mut tiny = port("x", &[Dim::Unknown]);
        tiny.elem = Some(Elem::F8E5m2);
        assert_eq!(error(tiny), "float8e5m2 has no name in the protocol");
    }
}
