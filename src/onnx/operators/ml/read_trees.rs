//! Forests from attributes: versions 1 to 3 identify nodes by tree and number, version 5 by index.

use super::forest::{Branch, BranchMode, Forest, LEAF, Real};
use super::{floats, ints};
use crate::host::HostTensor;
use crate::operators::Call;
use graph::error::{OnnxError, Result};
use std::collections::HashMap;

/// Numbers of an attribute, or of the tensor that replaces it.
pub(super) fn reals<V: Real>(call: &Call<'_>, name: &str) -> Result<Vec<V>> {
    if let Some(values) = call.floats(name)?.filter(|values| !values.is_empty()) {
        return Ok(values.iter().map(|value| V::of(f64::from(*value))).collect());
    }
    tensor(call, &format!("{name}_as_tensor"))
}

fn tensor<V: Real>(call: &Call<'_>, name: &str) -> Result<Vec<V>> {
    let Some(raw) = call.raw(name)? else { return Ok(Vec::new()) };
    Ok(HostTensor::from_raw(raw).to_f64().into_iter().map(V::of).collect())
}

/// Names of the attributes with the weights of leaves.
pub(super) struct LeafAttributes {
    pub(super) ids: &'static str,
    pub(super) nodes: &'static str,
    pub(super) trees: &'static str,
    pub(super) weights: &'static str,
}

/// Nodes of versions 1 to 3 while they are read.
struct Listed<'c, V> {
    trees: &'c [i64],
    numbers: &'c [i64],
    features: &'c [i64],
    modes: Vec<Option<BranchMode>>,
    thresholds: Vec<V>,
    yes: &'c [i64],
    no: &'c [i64],
    missing: &'c [i64],
    /// Indices in the forest, by tree and number.
    places: HashMap<(i64, i64), u32>,
}

fn mode(name: &str) -> Result<Option<BranchMode>> {
    Ok(Some(match name {
        "LEAF" => return Ok(None),
        "BRANCH_LEQ" => BranchMode::Leq,
        "BRANCH_LT" => BranchMode::Less,
        "BRANCH_GTE" => BranchMode::Geq,
        "BRANCH_GT" => BranchMode::Greater,
        "BRANCH_EQ" => BranchMode::Equal,
        "BRANCH_NEQ" => BranchMode::Unequal,
        other => {
            return Err(OnnxError::unsupported(format!("nodes_modes: '{other}' is not supported")));
        }
    }))
}

/// The index of the `count`th node or leaf.
fn place(count: usize) -> Result<u32> {
    let place = u32::try_from(count).ok().filter(|place| *place < LEAF);
    place.ok_or_else(|| {
        OnnxError::unsupported(format!("the forest has {count} nodes; the maximum is {LEAF}"))
    })
}

fn feature(number: i64) -> Result<u32> {
    u32::try_from(number)
        .map_err(|_| OnnxError::invalid(format!("a branch refers to column {number}")))
}

impl<'c, V: Real> Listed<'c, V> {
    fn read(call: &'c Call<'_>) -> Result<Listed<'c, V>> {
        let modes = call.texts("nodes_modes")?.unwrap_or_default();
        let mut own = Listed {
            trees: ints(call, "nodes_treeids")?,
            numbers: ints(call, "nodes_nodeids")?,
            features: ints(call, "nodes_featureids")?,
            modes: modes.iter().map(|name| mode(name)).collect::<Result<_, _>>()?,
            thresholds: reals(call, "nodes_values")?,
            yes: ints(call, "nodes_truenodeids")?,
            no: ints(call, "nodes_falsenodeids")?,
            missing: ints(call, "nodes_missing_value_tracks_true")?,
            places: HashMap::new(),
        };
        let count = own.trees.len();
        let lists = [own.numbers, own.features, own.yes, own.no].map(<[i64]>::len);
        if lists.iter().any(|length| *length != count)
            || own.modes.len() != count
            || own.thresholds.len() != count
        {
            return Err(OnnxError::invalid("the lists of nodes are of different lengths"));
        }
        own.number()?;
        Ok(own)
    }

    /// Assigns an index to each node.
    fn number(&mut self) -> Result<()> {
        let (mut branches, mut leaves) = (0, 0);
        for ((tree, number), mode) in self.trees.iter().zip(self.numbers).zip(&self.modes) {
            let own = match mode {
                Some(_) => place(branches)?,
                None => place(leaves)? | LEAF,
            };
            *(if mode.is_some() { &mut branches } else { &mut leaves }) += 1;
            if self.places.insert((*tree, *number), own).is_some() {
                return Err(OnnxError::invalid(format!(
                    "node {number} of tree {tree} is defined twice"
                )));
            }
        }
        Ok(())
    }

    fn find(&self, tree: i64, number: i64) -> Result<u32> {
        let place = self.places.get(&(tree, number)).copied();
        place.ok_or_else(|| {
            OnnxError::invalid(format!("node {number} of tree {tree} does not exist"))
        })
    }

    fn branch(&self, at: usize, mode: BranchMode) -> Option<Result<Branch<V>>> {
        let tree = *self.trees.get(at)?;
        let (yes, no) = (*self.yes.get(at)?, *self.no.get(at)?);
        let (threshold, column) = (*self.thresholds.get(at)?, *self.features.get(at)?);
        let missing = self.missing.get(at) == Some(&1);
        let make = || {
            let (yes, no) = (self.find(tree, yes)?, self.find(tree, no)?);
            Ok(Branch { feature: feature(column)?, threshold, yes, no, mode, missing })
        };
        Some(make())
    }

    fn forest(&self) -> Result<Forest<V>> {
        let mut forest = Forest::new();
        for (at, mode) in self.modes.iter().enumerate() {
            match mode.map(|mode| self.branch(at, mode)) {
                Some(branch) => forest.branches.extend(branch.transpose()?),
                None => forest.leaves.push(0..0),
            }
        }
        let mut last = None;
        for (tree, number) in self.trees.iter().zip(self.numbers) {
            // The first node of a tree in the list is its root.
            if last != Some(tree) {
                forest.roots.push(self.find(*tree, *number)?);
                last = Some(tree);
            }
        }
        Ok(forest)
    }
}

/// A forest of versions 1 to 3.
///
/// # Errors
/// If its lists contradict each other, or a tree has a cycle.
pub(super) fn listed<V: Real>(
    call: &Call<'_>,
    names: &LeafAttributes,
    targets: usize,
) -> Result<Forest<V>> {
    let nodes = Listed::<V>::read(call)?;
    let mut forest = nodes.forest()?;
    let (ids, weights) = (ints(call, names.ids)?, reals::<V>(call, names.weights)?);
    let (trees, numbers) = (ints(call, names.trees)?, ints(call, names.nodes)?);
    if [trees.len(), numbers.len(), weights.len()].iter().any(|length| *length != ids.len()) {
        return Err(OnnxError::invalid("the lists of weights are of different lengths"));
    }
    let mut own: Vec<Vec<(usize, V)>> = vec![Vec::new(); forest.leaves.len()];
    for (((id, weight), tree), number) in ids.iter().zip(weights).zip(trees).zip(numbers) {
        let place = nodes.find(*tree, *number)?;
        let target = target(*id, targets)?;
        // Old converters gave weights to branches too, which have no effect.
        if place & LEAF != 0
            && let Some(leaf) = own.get_mut((place & !LEAF) as usize)
        {
            leaf.push((target, weight));
        }
    }
    for (range, weights) in forest.leaves.iter_mut().zip(own) {
        let begin = forest.weights.len();
        forest.weights.extend(weights);
        *range = begin..forest.weights.len();
    }
    forest.checked()
}

fn target(id: i64, targets: usize) -> Result<usize> {
    let target = usize::try_from(id).ok().filter(|target| *target < targets);
    target.ok_or_else(|| {
        OnnxError::invalid(format!(
            "a leaf has a weight for target {id}, which is out of range for {targets} targets"
        ))
    })
}

/// Nodes of version 5 while they are read.
struct Placed<'c, V> {
    modes: Vec<i64>,
    splits: Vec<V>,
    features: &'c [i64],
    yes: &'c [i64],
    no: &'c [i64],
    yes_leaf: &'c [i64],
    no_leaf: &'c [i64],
    missing: &'c [i64],
}

impl<'c, V: Real> Placed<'c, V> {
    fn read(call: &'c Call<'_>) -> Result<Placed<'c, V>> {
        let modes = call
            .raw("nodes_modes")?
            .ok_or_else(|| OnnxError::invalid("nodes_modes are missing"))?;
        let own = Placed {
            modes: HostTensor::from_raw(modes).to_i64(),
            splits: tensor(call, "nodes_splits")?,
            features: ints(call, "nodes_featureids")?,
            yes: ints(call, "nodes_truenodeids")?,
            no: ints(call, "nodes_falsenodeids")?,
            yes_leaf: ints(call, "nodes_trueleafs")?,
            no_leaf: ints(call, "nodes_falseleafs")?,
            missing: ints(call, "nodes_missing_value_tracks_true")?,
        };
        let count = own.modes.len();
        let lists = [own.features, own.yes, own.no, own.yes_leaf, own.no_leaf];
        if own.splits.len() != count || lists.iter().any(|list| list.len() != count) {
            return Err(OnnxError::invalid("the lists of nodes are of different lengths"));
        }
        Ok(own)
    }

    fn child(places: &[i64], leaves: &[i64], at: usize) -> Result<u32> {
        let (number, is_leaf) = (places.get(at), leaves.get(at));
        let number = number.and_then(|number| u32::try_from(*number).ok());
        let number = number.filter(|number| *number < LEAF);
        let number = number.ok_or_else(|| OnnxError::invalid(format!("node {at} has no child")))?;
        Ok(if is_leaf.is_some_and(|flag| *flag != 0) { number | LEAF } else { number })
    }

    fn branch(&self, at: usize) -> Result<Branch<V>> {
        let mode = match self.modes.get(at) {
            Some(0) => BranchMode::Leq,
            Some(1) => BranchMode::Less,
            Some(2) => BranchMode::Geq,
            Some(3) => BranchMode::Greater,
            Some(4) => BranchMode::Equal,
            Some(5) => BranchMode::Unequal,
            Some(6) => BranchMode::Member,
            other => {
                return Err(OnnxError::unsupported(format!(
                    "nodes_modes: {other:?} is not supported"
                )));
            }
        };
        Ok(Branch {
            feature: feature(self.features.get(at).copied().unwrap_or(0))?,
            threshold: self.splits.get(at).copied().unwrap_or(V::ZERO),
            yes: Placed::<V>::child(self.yes, self.yes_leaf, at)?,
            no: Placed::<V>::child(self.no, self.no_leaf, at)?,
            mode,
            missing: self.missing.get(at) == Some(&1),
        })
    }

    /// The index of the first node of a tree; a tree of one leaf has a node with this leaf on both
    /// sides.
    fn root(&self, number: i64) -> Result<u32> {
        let at = usize::try_from(number).ok().filter(|at| *at < self.modes.len());
        let at = at.ok_or_else(|| {
            OnnxError::invalid(format!("tree_roots: node {number} does not exist"))
        })?;
        place(at)
    }
}

/// The members of sets: one after the other, with a NaN behind each set.
fn sets<V: Real>(forest: &mut Forest<V>, members: Vec<V>) {
    let mut members = members.into_iter();
    for (at, branch) in (0u32..).zip(&forest.branches) {
        if branch.mode == BranchMode::Member {
            let mut set: Vec<V> = members.by_ref().take_while(|value| !value.is_none()).collect();
            // Sorted for a binary search, since the file may have any order.
            set.sort_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
            forest.sets.insert(at, set);
        }
    }
}

/// A forest of version 5.
///
/// # Errors
/// If its lists contradict each other, or a tree has a cycle.
pub(super) fn placed<V: Real>(call: &Call<'_>, targets: usize) -> Result<Forest<V>> {
    let nodes = Placed::<V>::read(call)?;
    let mut forest = Forest::new();
    let (ids, weights) = (ints(call, "leaf_targetids")?, tensor::<V>(call, "leaf_weights")?);
    if ids.len() != weights.len() {
        return Err(OnnxError::invalid(format!(
            "the numbers of targets ({}) and weights ({}) differ",
            ids.len(),
            weights.len()
        )));
    }
    for (id, weight) in ids.iter().zip(weights) {
        let begin = forest.weights.len();
        forest.weights.push((target(*id, targets)?, weight));
        forest.leaves.push(begin..begin + 1);
    }
    // Rejects more leaves than an index can express.
    place(forest.leaves.len())?;
    let branches = (0..nodes.modes.len()).map(|at| nodes.branch(at));
    forest.branches = branches.collect::<Result<_, _>>()?;
    let roots = ints(call, "tree_roots")?.iter().map(|root| nodes.root(*root));
    forest.roots = roots.collect::<Result<_, _>>()?;
    sets(&mut forest, tensor(call, "membership_values")?);
    forest.checked()
}

/// Base values, which are added to the scores.
pub(super) fn bases<V: Real>(call: &Call<'_>) -> Result<Vec<V>> {
    reals(call, "base_values")
}

/// Returns true if no weight of the list in the file is below zero.
pub(super) fn are_positive<V: Real>(call: &Call<'_>, name: &str) -> Result<bool> {
    match floats(call, name)? {
        [] => Ok(reals::<V>(call, name)?.iter().all(|weight| *weight >= V::ZERO)),
        weights => Ok(weights.iter().all(|weight| *weight >= 0.0)),
    }
}
