use super::*;
use proptest::prelude::*;

/// `(a - b) * c + a`, as a program of three inputs.
fn program() -> Program {
    let step = |binary, operands: [Operand; 2]| Instruction {
        op: Op::Binary(binary),
        operands: operands.to_vec(),
    };
    let instructions = vec![
        step(Binary::Sub, [Operand::Input(0), Operand::Input(1)]),
        step(Binary::Mul, [Operand::Result(0), Operand::Input(2)]),
        step(Binary::Add, [Operand::Result(1), Operand::Input(0)]),
    ];
    Program { instructions }
}

/// The element of a broadcast tensor at an index of the result.
fn at(values: &[f32], shape: &[usize], result: &[usize], mut element: usize) -> f32 {
    let (mut place, mut size) = (0, 1);
    for (own, length) in shape.iter().zip(result).rev() {
        place += if *own == 1 { 0 } else { element % length * size };
        (element, size) = (element / length, size * own);
    }
    values[place]
}

fn values(shape: &[usize], from: usize) -> Vec<f32> {
    (0..shape.iter().product()).map(|at| ((at * 37 + from) % 101) as f32).collect()
}

fn check(shapes: &[Vec<usize>]) {
    let inputs: Vec<Vec<f32>> =
        shapes.iter().enumerate().map(|(from, shape)| values(shape, from)).collect();
    let tensors = inputs.iter().zip(shapes).map(|(values, shape)| put(values.clone(), shape));
    let result = run(&program(), tensors.collect()).unwrap();
    let shape = result.shape();
    let data = result.read().unwrap();
    for (element, got) in data.iter::<f32>().enumerate() {
        let input = |input: usize| at(&inputs[input], &shapes[input], &shape, element);
        let wanted = (input(0) - input(1)) * input(2) + input(0);
        assert!((got - wanted).abs() < 1e-3, "{shapes:?}: {element}: {got} is not {wanted}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    /// Short axes at the end, broadcast or not, are processed in one run.
    #[test]
    fn inputs_are_broadcast_along_every_axis(
        lengths in prop::collection::vec(prop::sample::select(vec![1, 2, 3, 4, 7, 40, 300]), 1..5),
        drops in prop::collection::vec(any::<u8>(), 2),
    ) {
        prop_assume!(lengths.iter().product::<usize>() < 100_000);
        let broadcast = |drops: &u8| {
            let keep = lengths.iter().enumerate();
            keep.map(|(axis, length)| if drops >> axis & 1 == 1 { 1 } else { *length }).collect()
        };
        let shapes: Vec<Vec<usize>> =
            [lengths.clone()].into_iter().chain(drops.iter().map(broadcast)).collect();
        check(&shapes);
        check(&[shapes[1].clone(), shapes[0].clone(), shapes[2].clone()]);
    }
}

#[test]
fn matrices_with_few_columns_are_processed_in_long_runs() {
    let rows = 100_000;
    for other in [vec![1, 4], vec![rows, 1], vec![1, 1]] {
        check(&[vec![rows, 4], other.clone(), vec![1, 4]]);
        let walk = ElementWalk::new(&[vec![rows, 4], other], &[rows, 4]).unwrap();
        assert_eq!((walk.run, walk.piece % 4), (rows * 4, 0));
    }
}
