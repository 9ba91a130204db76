//! Memory that rows take while they run.

use super::*;

/// An adapter with this memory and `slots` slots; a model of 10 bytes with 100 bytes a row.
fn bench(memory: u64, slots: u32) -> Bench {
    let mut bench = Bench::new(&[]);
    let memory = Some(memory);
    bench.serve(ModelProfile { row_bytes: 100, ..profile(8) });
    bench.listed(&[(ONE, AdapterProfile { slots, memory, ..adapter(0, false) })]);
    bench.set_mode(ONE, AdapterMode::On).opened(ONE);
    bench.loaded(ONE, MODEL, &[(1, ms(10)), (8, ms(10))]);
    bench
}

/// Rows of each batch that the adapter holds.
fn held(bench: &Bench) -> Vec<u32> {
    let view = bench.view(ONE);
    view.state.running.iter().map(|running| running.batch.rows()).collect()
}

#[test]
fn batch_has_no_more_rows_than_there_is_memory_for() {
    for (memory, rows) in [(10_000, 8), (330, 3), (310, 3), (309, 2), (20, 1)] {
        let mut bench = bench(memory, 1);
        bench.request_with(|arrival| arrival.rows = 8);
        assert_eq!(held(&bench), [rows], "{memory} bytes");
    }
}

#[test]
fn batch_follows_another_only_where_there_is_memory_for_both() {
    for (memory, batches) in [(10_000, 2), (1610, 2), (1609, 1)] {
        let mut bench = bench(memory, 2);
        (0..2).for_each(|_| _ = bench.request_with(|arrival| arrival.rows = 8));
        assert_eq!(held(&bench).len(), batches, "{memory} bytes");
    }
}

#[test]
fn memory_of_running_rows_is_not_free_for_models() {
    let mut bench = bench(1000, 1);
    let free = |bench: &Bench| estimates::free_bytes(&bench.scheduler.world, ONE);
    assert_eq!(free(&bench), 990);
    bench.request_with(|arrival| arrival.rows = 4);
    assert_eq!(free(&bench), 590);
    bench.done(ONE);
    assert_eq!(free(&bench), 990);
}
