//! Support vector machines.

use super::scores::{Transform, logistic, probit};
use super::{Labels, floats, in_blocks, ints, table};
use crate::attribute_values;
use crate::host::first;
use crate::native_tensor::NativeTensor;
use crate::operators::{Call, Outputs, Table, several};
use crate::trace::Tracer;
use graph::elem::Elem;
use graph::error::{OnnxError, Result};

pub(in crate::operators) const TABLE: Table =
    &[("SVMClassifier", classify), ("SVMRegressor", regress)];

#[derive(Clone, Copy, Debug)]
enum KernelType {
    Linear,
    Poly,
    Rbf,
    Sigmoid,
}

/// Kernel functions of rows with vectors.
#[derive(Debug)]
struct SvmKernel {
    shape: KernelType,
    gamma: f32,
    coefficient: f32,
    degree: f32,
    columns: usize,
    count: usize,
    /// `[columns, count]`: the elements of a column are adjacent, for sums over columns.
    vectors: Vec<f32>,
}

impl SvmKernel {
    /// `count` vectors; linear ones without parameters if `plain`.
    ///
    /// # Errors
    /// If the vectors differ in length, or the kernel is not supported.
    fn read(call: &Call<'_>, all: &[f32], count: usize, plain: bool) -> Result<SvmKernel> {
        let columns = all.len().checked_div(count).unwrap_or(0);
        if columns == 0 || columns * count != all.len() {
            return Err(OnnxError::invalid(format!(
                "{} numbers do not fit {count} vectors",
                all.len()
            )));
        }
        let shape = match call.text("kernel_type")?.unwrap_or("LINEAR") {
            _ if plain => KernelType::Linear,
            "LINEAR" => KernelType::Linear,
            "POLY" => KernelType::Poly,
            "RBF" => KernelType::Rbf,
            "SIGMOID" => KernelType::Sigmoid,
            other => {
                return Err(OnnxError::unsupported(format!(
                    "kernel_type: '{other}' is not supported"
                )));
            }
        };
        let parameter = |at: usize| -> Result<f32> {
            Ok(floats(call, "kernel_params")?.get(at).copied().unwrap_or(0.0))
        };
        let (gamma, coefficient, degree) = (parameter(0)?, parameter(1)?, parameter(2)?);
        let vectors = (0..columns).flat_map(|column| all.iter().skip(column).step_by(columns));
        let vectors = vectors.copied().collect();
        Ok(SvmKernel { shape, gamma, coefficient, degree, columns, count, vectors })
    }

    /// The kernel of a row with each vector.
    fn of(&self, row: &[f32], sums: &mut [f32]) {
        sums.fill(0.0);
        for (x, vectors) in row.iter().zip(self.vectors.chunks_exact(self.count)) {
            let pairs = sums.iter_mut().zip(vectors);
            match self.shape {
                KernelType::Rbf => pairs.for_each(|(sum, v)| *sum += (x - v) * (x - v)),
                _ => pairs.for_each(|(sum, v)| *sum += x * v),
            }
        }
        let (gamma, coefficient, degree) = (self.gamma, self.coefficient, self.degree);
        for sum in sums {
            *sum = match self.shape {
                KernelType::Linear => *sum,
                KernelType::Rbf => (-gamma * *sum).exp(),
                KernelType::Sigmoid => (gamma * *sum + coefficient).tanh(),
                KernelType::Poly => {
                    let base = gamma * *sum + coefficient;
                    match degree {
                        2.0 => base * base,
                        3.0 => base * base * base,
                        _ => base.powf(degree),
                    }
                }
            };
        }
    }

    /// # Errors
    /// If the rows and the vectors differ in their columns.
    fn check(&self, columns: usize) -> Result<()> {
        if columns == self.columns {
            return Ok(());
        }
        Err(OnnxError::input(format!(
            "rows have {columns} columns, but the vectors have {}",
            self.columns
        )))
    }
}

/// Calls a function for each row of a matrix and joins its results, block by block.
fn each_row<R: Send>(
    x: &NativeTensor,
    columns: usize,
    rows: usize,
    run: impl Fn(&[f32], &mut Vec<R>, &mut Vec<f32>) + Send + Sync,
) -> Result<(Vec<R>, Vec<f32>)> {
    let x = x.to_singles()?;
    let parts = in_blocks(rows, |block| {
        let own = x.get(block.start * columns..block.end * columns).unwrap_or_default();
        let (mut classes, mut scores) = (Vec::new(), Vec::new());
        for row in own.chunks_exact(columns.max(1)) {
            run(row, &mut classes, &mut scores);
        }
        Ok((classes, scores))
    })?;
    let (mut classes, mut scores) = (Vec::new(), Vec::new());
    for (more_classes, more_scores) in parts {
        classes.extend(more_classes);
        scores.extend(more_scores);
    }
    Ok((classes, scores))
}

#[derive(Debug)]
struct SvmRegressor {
    kernel: SvmKernel,
    /// Coefficients of the vectors; `None` if the kernel has one product, which is the answer.
    coefficients: Option<Vec<f32>>,
    rho: f32,
    one_class: bool,
}

impl SvmRegressor {
    fn read(call: &Call<'_>) -> Result<SvmRegressor> {
        let (coefficients, rho) = (floats(call, "coefficients")?, floats(call, "rho")?);
        let rho = *rho.first().ok_or_else(|| OnnxError::invalid("rho is missing"))?;
        let one_class = call.int_or("one_class", 0)? != 0;
        let count = usize::try_from(call.int_or("n_supports", 0)?).unwrap_or(0);
        if count == 0 {
            let kernel = SvmKernel::read(call, coefficients, 1, true)?;
            return Ok(SvmRegressor { kernel, coefficients: None, rho, one_class });
        }
        if coefficients.len() < count {
            return Err(OnnxError::invalid(format!(
                "{} coefficients do not fit {count} vectors",
                coefficients.len()
            )));
        }
        let kernel = SvmKernel::read(call, floats(call, "support_vectors")?, count, false)?;
        let coefficients = coefficients.iter().take(count).copied().collect();
        Ok(SvmRegressor { kernel, coefficients: Some(coefficients), rho, one_class })
    }

    fn row(&self, row: &[f32]) -> f32 {
        let mut sums = vec![0.0; self.kernel.count];
        self.kernel.of(row, &mut sums);
        let sum: f32 = match &self.coefficients {
            None => sums.iter().sum(),
            Some(all) => sums.iter().zip(all).map(|(sum, coefficient)| sum * coefficient).sum(),
        };
        let value = sum + self.rho;
        match self.one_class {
            true if value > 0.0 => 1.0,
            true => -1.0,
            false => value,
        }
    }
}

fn regress(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let x = call.tensor(0)?;
    let (rows, columns) = table(x)?;
    let model = attribute_values::value(t, call, || SvmRegressor::read(call))?;
    model.kernel.check(columns)?;
    let run = move |inputs: &[NativeTensor]| {
        let x = first(inputs)?;
        let one = |row: &[f32], _: &mut Vec<()>, scores: &mut Vec<f32>| scores.push(model.row(row));
        let (_, scores) = each_row(x, columns, rows, one)?;
        Ok(vec![NativeTensor::singles(vec![rows, 1], scores)])
    };
    several(t.native_op("support_vectors", &[x], &[(Elem::F32, vec![rows, 1])], run)?)
}

#[derive(Debug)]
struct SvmClassifier {
    kernel: SvmKernel,
    labels: Labels,
    transform: Transform,
    rho: Vec<f32>,
    /// Slopes and offsets of the probabilities of pairs; empty without probabilities.
    pairs: Vec<(f32, f32)>,
    /// First vector and number of vectors of each class; empty if each class has one vector.
    vectors: Vec<(usize, usize)>,
    /// `[classes - 1, vectors]`.
    coefficients: Vec<f32>,
    all_positive: bool,
}

impl SvmClassifier {
    fn read(call: &Call<'_>) -> Result<SvmClassifier> {
        let labels = Labels::read(call, "classlabels_strings", "classlabels_ints")?;
        let (coefficients, rho) = (floats(call, "coefficients")?, floats(call, "rho")?);
        let transform = Transform::named(call.text("post_transform")?)?;
        let (mut vectors, mut count) = (Vec::new(), 0usize);
        for own in ints(call, "vectors_per_class")? {
            let own = usize::try_from(*own).map_err(|_| {
                OnnxError::invalid(format!("vectors_per_class: {own} is not valid"))
            })?;
            vectors.push((count, own));
            count =
                count.checked_add(own).ok_or_else(|| OnnxError::unsupported("too many vectors"))?;
        }
        let kernel = if count == 0 {
            vectors.clear();
            SvmKernel::read(call, coefficients, labels.len(), true)?
        } else {
            SvmKernel::read(call, floats(call, "support_vectors")?, count, false)?
        };
        let (slopes, offsets) = (floats(call, "prob_a")?, floats(call, "prob_b")?);
        let pairs = slopes.iter().copied().zip(offsets.iter().copied()).collect();
        let all_positive = coefficients.iter().all(|value| *value >= 0.0);
        let (rho, coefficients) = (rho.to_vec(), coefficients.to_vec());
        let own = SvmClassifier {
            kernel,
            labels,
            transform,
            rho,
            pairs,
            vectors,
            coefficients,
            all_positive,
        };
        own.check()?;
        Ok(own)
    }

    fn check(&self) -> Result<()> {
        let classes = self.labels.len();
        // The number of pairs grows with the square of the classes.
        if classes >= 1 << 16 {
            return Err(OnnxError::unsupported(format!(
                "the model has {classes} classes; the maximum is 65535"
            )));
        }
        let pairs = classes * classes.saturating_sub(1) / 2;
        let rho = if self.is_linear() { 1 } else { pairs };
        let coefficients = classes.saturating_sub(1).saturating_mul(self.kernel.count);
        let fits = self.rho.len() >= rho
            && (self.pairs.is_empty() || self.pairs.len() >= pairs)
            && (self.is_linear()
                || self.vectors.len() == classes && self.coefficients.len() >= coefficients);
        if fits {
            Ok(())
        } else {
            Err(OnnxError::invalid(format!(
                "the lengths of its attributes do not fit {classes} classes"
            )))
        }
    }

    fn is_linear(&self) -> bool {
        self.vectors.is_empty()
    }

    /// The number of scores of a row.
    fn width(&self) -> usize {
        let classes = self.labels.len();
        match self.is_linear() || !self.pairs.is_empty() {
            true => classes,
            false if classes > 2 => classes * (classes - 1) / 2,
            false => 2,
        }
    }

    /// The class of a row; its scores are appended to the others.
    fn row(&self, row: &[f32], all: &mut Vec<f32>) -> usize {
        let mut sums = vec![0.0; self.kernel.count];
        self.kernel.of(row, &mut sums);
        if self.is_linear() {
            let rho = self.rho.first().copied().unwrap_or(0.0);
            sums.iter_mut().for_each(|sum| *sum += rho);
            let (class, most) = first_largest(&sums);
            self.transform.row(&mut sums);
            all.extend_from_slice(&sums);
            return self.of_two(class, most);
        }
        let (mut scores, votes) = self.duels(&sums);
        let (class, _) = first_largest(&votes);
        if !self.pairs.is_empty() {
            scores = self.probabilities(&scores);
            self.transform.row(&mut scores);
        } else if let [score] = scores[..] {
            scores = match self.transform {
                Transform::None => vec![-score, score],
                Transform::Probit => vec![probit(score), 0.0],
                Transform::Logistic => vec![logistic(-score), logistic(score)],
                _ => vec![1.0 - score, score],
            };
        } else {
            self.transform.row(&mut scores);
        }
        scores.resize(self.width(), 0.0);
        all.append(&mut scores);
        self.of_two(class, 0.0)
    }

    /// The class of two without probabilities, by the sign of the larger score.
    fn of_two(&self, class: usize, most: f32) -> usize {
        let decides = self.labels.len() == 2 && self.pairs.is_empty();
        let second = if self.all_positive { most >= 0.5 } else { most > 0.0 };
        if decides && second { 1 } else { class }
    }

    /// The scores of all pairs of classes, and the number of pairs that each class wins.
    fn duels(&self, kernels: &[f32]) -> (Vec<f32>, Vec<f32>) {
        let classes = self.labels.len();
        let (mut scores, mut votes) = (Vec::new(), vec![0.0; classes]);
        let part = |row: usize, (first, count): (usize, usize)| {
            let own = self.coefficients.iter().skip(row * self.kernel.count + first).take(count);
            let kernels = kernels.iter().skip(first);
            own.zip(kernels).map(|(a, b)| f64::from(a * b)).sum::<f64>()
        };
        let mut rho = self.rho.iter();
        for (i, one) in self.vectors.iter().enumerate() {
            for (j, other) in self.vectors.iter().enumerate().skip(i + 1) {
                let sum = part(j - 1, *one) + part(i, *other);
                let sum = sum + f64::from(rho.next().copied().unwrap_or(0.0));
                if let Some(vote) = votes.get_mut(if sum > 0.0 { i } else { j }) {
                    *vote += 1.0;
                }
                #[allow(clippy::cast_possible_truncation, reason = "a score has 32 bits")]
                scores.push(sum as f32);
            }
        }
        (scores, votes)
    }

    /// The probabilities of classes from the scores of their pairs (T.-F. Wu, C.-J. Lin and
    /// R. C. Weng: Probability estimates for multi-class classification by pairwise coupling, 2004).
    fn probabilities(&self, scores: &[f32]) -> Vec<f32> {
        let classes = self.labels.len();
        let mut pairs = vec![0.0f32; classes * classes];
        let mut given = scores.iter().zip(&self.pairs);
        for i in 0..classes {
            for j in i + 1..classes {
                let Some((score, (slope, offset))) = given.next() else { break };
                let share = 1.0 - logistic(score * slope + offset);
                // LIBSVM's bound, since shares of 0 and 1 leave nothing to couple.
                let share = share.clamp(1e-7, 1.0 - 1e-7);
                for (at, share) in [(i * classes + j, share), (j * classes + i, 1.0 - share)] {
                    if let Some(place) = pairs.get_mut(at) {
                        *place = share;
                    }
                }
            }
        }
        couple(classes, &pairs)
    }
}

/// The first of the largest numbers, and its value.
fn first_largest(values: &[f32]) -> (usize, f32) {
    let mut best = (0, values.first().copied().unwrap_or(0.0));
    for (at, value) in values.iter().enumerate() {
        if *value > best.1 {
            best = (at, *value);
        }
    }
    best
}

/// Finds the probabilities that agree best with those of pairs, in a hundred iterations at most.
fn couple(classes: usize, pairs: &[f32]) -> Vec<f32> {
    let pair = |i: usize, j: usize| pairs.get(i * classes + j).copied().unwrap_or(0.0);
    let q = |i: usize, j: usize| match i == j {
        true => (0..classes).filter(|k| *k != i).map(|k| pair(k, i) * pair(k, i)).sum(),
        false => -pair(j, i) * pair(i, j),
    };
    let matrix: Vec<Vec<f32>> =
        (0..classes).map(|i| (0..classes).map(|j| q(i, j)).collect()).collect();
    let count = classes as f32;
    // The tolerance and the number of iterations are those of LIBSVM.
    let (mut shares, close) = (vec![1.0 / count; classes], 0.005 / count);
    for _ in 0..100 {
        let products = matrix.iter().map(|row| row.iter().zip(&shares).map(|(a, b)| a * b).sum());
        let mut products: Vec<f32> = products.collect();
        let mut total: f32 = shares.iter().zip(&products).map(|(a, b)| a * b).sum();
        if products.iter().all(|product| (product - total).abs() < close) {
            break;
        }
        for (i, row) in matrix.iter().enumerate() {
            let (Some(own), Some(product)) = (row.get(i), products.get(i).copied()) else { break };
            let step = (total - product) / own;
            if let Some(share) = shares.get_mut(i) {
                *share += step;
            }
            let grown = 1.0 + step;
            total = (total + step * (step * own + 2.0 * product)) / grown / grown;
            for ((product, share), cell) in products.iter_mut().zip(&mut shares).zip(row) {
                *product = (*product + step * cell) / grown;
                *share /= grown;
            }
        }
    }
    shares
}

fn classify(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let x = call.tensor(0)?;
    let (rows, columns) = table(x)?;
    let model = attribute_values::value(t, call, || SvmClassifier::read(call))?;
    model.kernel.check(columns)?;
    let width = model.width();
    let forms = [(model.labels.elem(), vec![rows]), (Elem::F32, vec![rows, width])];
    let run = move |inputs: &[NativeTensor]| {
        let x = first(inputs)?;
        let one = |row: &[f32], classes: &mut Vec<usize>, scores: &mut Vec<f32>| {
            classes.push(model.row(row, scores));
        };
        let (classes, scores) = each_row(x, columns, rows, one)?;
        Ok(vec![model.labels.pick(&classes), NativeTensor::singles(vec![rows, width], scores)])
    };
    several(t.native_op("support_vectors", &[x], &forms, run)?)
}
