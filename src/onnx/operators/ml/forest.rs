//! Trees as flat arrays, and their evaluation for rows.

use crate::native_tensor::NativeTensor;
use graph::error::{OnnxError, Result};
use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::{Add, Div, Neg, Range};

/// The number type of thresholds and weights, which is that of the input.
pub(super) trait Real:
    Copy
    + PartialOrd
    + Add<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + Send
    + Sync
    + 'static
{
    const ZERO: Self;
    fn of(value: f64) -> Self;
    fn single(self) -> f32;
    fn is_none(self) -> bool;
    /// The elements of a tensor.
    ///
    /// # Errors
    /// For text.
    fn all_of(cells: &NativeTensor) -> Result<Cow<'_, [Self]>>;
    fn cells(shape: Vec<usize>, values: Vec<Self>) -> NativeTensor;
}

impl Real for f32 {
    const ZERO: f32 = 0.0;

    #[allow(clippy::cast_possible_truncation, reason = "rounded to the type")]
    fn of(value: f64) -> f32 {
        value as f32
    }

    fn single(self) -> f32 {
        self
    }

    fn is_none(self) -> bool {
        self.is_nan()
    }

    fn all_of(cells: &NativeTensor) -> Result<Cow<'_, [f32]>> {
        cells.to_singles()
    }

    fn cells(shape: Vec<usize>, values: Vec<f32>) -> NativeTensor {
        NativeTensor::singles(shape, values)
    }
}

impl Real for f64 {
    const ZERO: f64 = 0.0;

    fn of(value: f64) -> f64 {
        value
    }

    #[allow(clippy::cast_possible_truncation, reason = "rounded to the type")]
    fn single(self) -> f32 {
        self as f32
    }

    fn is_none(self) -> bool {
        self.is_nan()
    }

    fn all_of(cells: &NativeTensor) -> Result<Cow<'_, [f64]>> {
        cells.to_doubles()
    }

    fn cells(shape: Vec<usize>, values: Vec<f64>) -> NativeTensor {
        NativeTensor::doubles(shape, values)
    }
}

/// The comparison of a feature with its threshold in a branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BranchMode {
    Leq,
    Less,
    Geq,
    Greater,
    Equal,
    Unequal,
    /// Membership in a set instead of a comparison with a threshold.
    Member,
}

/// A node with two children.
#[derive(Clone, Debug)]
pub(super) struct Branch<V> {
    pub(super) feature: u32,
    pub(super) threshold: V,
    pub(super) yes: u32,
    pub(super) no: u32,
    pub(super) mode: BranchMode,
    /// A NaN feature takes the branch for a true comparison.
    pub(super) missing: bool,
}

/// Set in indices of leaves, not in those of branches.
pub(super) const LEAF: u32 = 1 << 31;

/// A set of trees. An index is that of a branch, or of a leaf with [`LEAF`].
#[derive(Debug)]
pub(super) struct Forest<V> {
    pub(super) branches: Vec<Branch<V>>,
    /// The range of weights of each leaf.
    pub(super) leaves: Vec<Range<usize>>,
    /// Targets with their summands.
    pub(super) weights: Vec<(usize, V)>,
    pub(super) roots: Vec<u32>,
    /// The members of sets, by branch.
    pub(super) sets: HashMap<u32, Vec<V>>,
    /// The number of columns that rows must have.
    pub(super) columns: usize,
    /// The mode of all branches, if they have the same one.
    mode: Option<BranchMode>,
}

/// The aggregation of the weights of one target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Aggregate {
    Sum,
    Average,
    Min,
    Max,
}

impl Aggregate {
    fn join<V: Real>(self, so_far: V, weight: V) -> V {
        match self {
            Aggregate::Sum | Aggregate::Average => so_far + weight,
            Aggregate::Min if weight < so_far => weight,
            Aggregate::Max if weight > so_far => weight,
            Aggregate::Min | Aggregate::Max => so_far,
        }
    }
}

impl<V: Real> Forest<V> {
    /// # Errors
    /// If a tree has a cycle, or refers to a missing node.
    pub(super) fn checked(mut self) -> Result<Forest<V>> {
        let mut modes = self.branches.iter().map(|branch| branch.mode);
        let first = modes.next();
        self.mode = first.filter(|first| modes.all(|mode| mode == *first));
        let columns = self.branches.iter().map(|branch| branch.feature as usize + 1);
        self.columns = columns.max().unwrap_or(0);
        self.check_ends()?;
        Ok(self)
    }

    pub(super) fn new() -> Forest<V> {
        Forest {
            branches: Vec::new(),
            leaves: Vec::new(),
            weights: Vec::new(),
            roots: Vec::new(),
            sets: HashMap::new(),
            columns: 0,
            mode: None,
        }
    }

    /// Walks down from each root; a cycle of branches would never end.
    fn check_ends(&self) -> Result<()> {
        const NEW: u8 = 0;
        const OPEN: u8 = 1;
        const DONE: u8 = 2;
        let mut states = vec![NEW; self.branches.len()];
        // A stack on the heap: a tree may be a chain as long as the file.
        let mut path: Vec<(u32, bool)> = self.roots.iter().map(|root| (*root, false)).collect();
        while let Some((place, behind)) = path.pop() {
            if place & LEAF != 0 {
                let there = self.leaves.get((place & !LEAF) as usize).is_some();
                there.then_some(()).ok_or_else(|| {
                    OnnxError::invalid("a branch leads to a leaf that does not exist")
                })?;
                continue;
            }
            let branch = self.branches.get(place as usize);
            let state = states.get_mut(place as usize);
            let (Some(branch), Some(state)) = (branch, state) else {
                return Err(OnnxError::invalid("a branch leads to a node that does not exist"));
            };
            match *state {
                // The second visit, after both children.
                _ if behind => *state = DONE,
                OPEN => {
                    return Err(OnnxError::invalid("a tree leads back to one of its own nodes"));
                }
                DONE => {}
                _ => {
                    *state = OPEN;
                    path.extend([(place, true), (branch.yes, false), (branch.no, false)]);
                }
            }
        }
        Ok(())
    }

    /// Calls a function with the row, the target and the weight for each leaf that a row of a block
    /// reaches. With one target, only the first weight of a leaf counts.
    pub(super) fn run(
        &self,
        block: &[V],
        columns: usize,
        targets: usize,
        mut found: impl FnMut(usize, usize, V),
    ) {
        let most = if targets == 1 { 1 } else { usize::MAX };
        let mut leaf = |row: usize, leaf: usize| {
            let weights = self.leaves.get(leaf).cloned().unwrap_or_default();
            for (target, weight) in self.weights.get(weights).unwrap_or_default().iter().take(most)
            {
                found(row, if targets == 1 { 0 } else { *target }, *weight);
            }
        };
        match self.mode {
            Some(BranchMode::Leq) => {
                self.walk(block, columns, &mut leaf, |x, own, _| x <= own.threshold)
            }
            Some(BranchMode::Less) => {
                self.walk(block, columns, &mut leaf, |x, own, _| x < own.threshold)
            }
            _ => self.walk(block, columns, &mut leaf, |x, own, at| self.holds(x, own, at)),
        }
    }

    fn holds(&self, x: V, branch: &Branch<V>, at: u32) -> bool {
        match branch.mode {
            BranchMode::Leq => x <= branch.threshold,
            BranchMode::Less => x < branch.threshold,
            BranchMode::Geq => x >= branch.threshold,
            BranchMode::Greater => x > branch.threshold,
            BranchMode::Equal => x == branch.threshold,
            BranchMode::Unequal => x != branch.threshold,
            BranchMode::Member => self.sets.get(&at).is_some_and(|set| {
                set.binary_search_by(|member| {
                    member.partial_cmp(&x).unwrap_or(std::cmp::Ordering::Less)
                })
                .is_ok()
            }),
        }
    }

    /// Processes all rows with one tree after the other: the tree's nodes stay in the cache.
    fn walk(
        &self,
        block: &[V],
        columns: usize,
        leaf: &mut impl FnMut(usize, usize),
        holds: impl Fn(V, &Branch<V>, u32) -> bool,
    ) {
        for root in &self.roots {
            for (at, row) in block.chunks_exact(columns.max(1)).enumerate() {
                let mut place = *root;
                while place & LEAF == 0 {
                    let Some(branch) = self.branches.get(place as usize) else { break };
                    let x = row.get(branch.feature as usize).copied().unwrap_or(V::ZERO);
                    // `|` and `&` evaluate both sides without a jump in the innermost loop.
                    let yes = holds(x, branch, place) | (branch.missing & x.is_none());
                    place = if yes { branch.yes } else { branch.no };
                }
                leaf(at, (place & !LEAF) as usize);
            }
        }
    }

    /// The scores of a block's rows, `[rows, targets]`; `None` for targets without a weight.
    pub(super) fn scores(
        &self,
        block: &[V],
        (rows, columns): (usize, usize),
        targets: usize,
        aggregate: Aggregate,
    ) -> Vec<Option<V>> {
        let mut scores = vec![None; rows * targets];
        self.run(block, columns, targets, |row, target, weight| {
            if let Some(score) = scores.get_mut(row * targets + target) {
                *score = Some(match *score {
                    None => weight,
                    Some(so_far) => aggregate.join(so_far, weight),
                });
            }
        });
        if aggregate == Aggregate::Average {
            #[allow(clippy::cast_precision_loss, reason = "a number of trees")]
            let trees = V::of(self.roots.len() as f64);
            scores.iter_mut().flatten().for_each(|score| *score = *score / trees);
        }
        scores
    }
}
