//! Eviction of models, by how often they are requested.

use super::super::popularity::Popularity;
use super::memory::{OTHER, sized};
use super::*;

const THIRD: ModelId = ModelId(2);
const FOURTH: ModelId = ModelId(3);
const FIFTH: ModelId = ModelId(4);

/// Adapters of which each has memory for two of four models of the same size, all held on; loads
/// take 500 ms.
fn bench(adapters: &[AdapterId]) -> Bench {
    let mut bench = super::idling::bench(&[]);
    let profile = AdapterProfile { memory: Some(20), ..adapter(0, false) };
    bench.serve(sized(10));
    let listed: Vec<_> = adapters.iter().map(|id| (*id, profile)).collect();
    bench.listed(&listed);
    for (id, model) in adapters.iter().zip([MODEL, THIRD]) {
        bench.add(model, sized(10)).set_mode(*id, AdapterMode::On).opened(*id).has(*id, model);
    }
    bench
}

impl Bench {
    /// A load ends.
    fn has(&mut self, adapter: AdapterId, model: ModelId) -> &mut Bench {
        self.after(ms(500)).loaded(adapter, model, &[(1, ms(10))])
    }

    /// Requests a model and waits for all loads and batches.
    fn uses(&mut self, model: ModelId) -> &mut Bench {
        self.want(model);
        for _ in 0..8 {
            self.after(ms(250));
            for id in [ONE, TWO] {
                let view = self.scheduler.adapters().find(|(other, _)| *other == id);
                let state = view.map(|(_, view)| view.state.clone());
                match (
                    state.as_ref().map(|state| state.running.is_empty()),
                    state.and_then(|s| s.load),
                ) {
                    (Some(false), _) => drop(self.done(id)),
                    (_, Some(load)) => drop(self.has(id, load.model)),
                    _ => {}
                }
            }
        }
        self
    }

    fn holds(&self, adapter: AdapterId) -> Vec<u32> {
        self.view(adapter).replicas.keys().map(|model| model.0).collect()
    }

    /// The adapter that has a model.
    fn homes(&self, model: ModelId) -> Vec<u32> {
        let has = self.scheduler.adapters().filter(|(_, view)| view.replicas.contains_key(&model));
        has.map(|(id, _)| id.0).collect()
    }
}

#[test]
fn frequently_requested_model_stays_although_used_longer_ago() {
    let mut bench = bench(&[ONE]);
    bench.add(OTHER, sized(10));
    for _ in 0..10 {
        bench.after(ms(3000)).uses(MODEL);
    }
    bench.after(ms(3000)).uses(OTHER);
    bench.add(THIRD, sized(10)).after(ms(3000)).uses(THIRD);
    assert_eq!(bench.holds(ONE), [0, 2]);
    // A model without recent requests is evicted, however often it was requested before.
    bench.after(ms(3_600_000));
    for _ in 0..5 {
        bench.after(ms(3000)).uses(THIRD);
    }
    bench.after(ms(3000)).uses(OTHER);
    assert_eq!(bench.holds(ONE), [1, 2]);
}

#[test]
fn model_that_another_adapter_has_too_is_evicted_first() {
    let mut bench = bench(&[ONE, TWO]);
    for _ in 0..10 {
        bench.after(ms(3000)).uses(MODEL);
    }
    for _ in 0..3 {
        bench.after(ms(3000)).uses(THIRD);
    }
    // Free memory is filled with requested models.
    assert_eq!((bench.holds(ONE), bench.holds(TWO)), (vec![0, 2], vec![0, 2]));
    bench.add(FOURTH, sized(10)).after(ms(3000)).uses(FOURTH);
    assert_eq!(bench.homes(MODEL).len() + bench.homes(THIRD).len(), 3);
    bench.add(FIFTH, sized(10)).after(ms(3000)).uses(FIFTH);
    for model in [MODEL, THIRD, FOURTH, FIFTH] {
        assert_eq!(bench.homes(model).len(), 1, "{model:?}");
    }
}

#[test]
fn model_is_loaded_where_the_evicted_model_is_worth_least() {
    for (often, home) in [([MODEL, OTHER, THIRD], 2), ([MODEL, THIRD, FOURTH], 1)] {
        let mut bench = bench(&[ONE, TWO]);
        bench.add(OTHER, sized(10)).add(FOURTH, sized(10));
        for model in [OTHER, FOURTH] {
            bench.after(ms(3000)).uses(model);
        }
        for _ in 0..10 {
            for model in often {
                bench.after(ms(3000)).uses(model);
            }
        }
        let seldom = [OTHER, FOURTH].into_iter().find(|model| !often.contains(model)).unwrap();
        let before = bench.homes(seldom);
        bench.add(FIFTH, sized(10)).after(ms(3000)).uses(FIFTH);
        assert_eq!(bench.homes(FIFTH), before, "{home}");
        assert!(bench.homes(seldom).is_empty());
    }
}

#[test]
fn a_model_is_loaded_once_for_rows_that_one_adapter_serves_as_soon() {
    let mut bench = bench(&[ONE, TWO]);
    bench.add(FOURTH, sized(10)).add(FIFTH, sized(10));
    for model in [MODEL, THIRD, FOURTH, MODEL, THIRD, FOURTH] {
        bench.after(ms(3000)).uses(model);
    }
    bench.after(ms(3000)).want(FIFTH);
    let loads = bench.actions.iter().filter(|actions| actions.starts_with("load")).count();
    assert_eq!(loads, 1, "{:?}", bench.actions);
}

#[test]
fn requests_of_long_ago_count_less_than_recent_ones() {
    let mut popularity = Popularity::default();
    let at = |seconds| Time(Duration::from_secs(seconds));
    (0..10).for_each(|second| popularity.note(at(second), MODEL));
    popularity.note(at(36_000), MODEL);
    let per_hour = popularity.rate(at(36_000), MODEL) * 3600.0;
    assert!((1.0..1.001).contains(&per_hour), "{per_hour}");
}

#[test]
fn request_rate_is_bounded_by_the_last_pause() {
    let mut popularity = Popularity::default();
    let at = |seconds| Time(Duration::from_secs(seconds));
    (0..1000).for_each(|second| popularity.note(at(second), MODEL));
    assert!(popularity.rate(at(1000), MODEL) > 0.2);
    // Five gaps of the mean length fit into 500 s.
    assert!((0.0099..0.0101).contains(&popularity.rate(at(1499), MODEL)));
}

#[test]
fn no_second_copy_of_the_first_model_is_loaded_while_the_last_one_has_no_place() {
    let mut bench = bench(&[ONE]);
    bench.add(OTHER, sized(10)).add(THIRD, sized(10));
    for model in [THIRD, MODEL, MODEL, MODEL, OTHER, OTHER] {
        bench.after(ms(3000)).uses(model);
    }
    assert_eq!(bench.holds(ONE), [0, 1]);
    let profile = AdapterProfile { memory: Some(20), ..adapter(0, false) };
    bench.listed(&[(ONE, profile), (TWO, profile)]).set_mode(TWO, AdapterMode::On).opened(TWO);
    let Some(Loading { model, .. }) = bench.view(TWO).state.load else {
        panic!("it loads nothing")
    };
    assert_eq!(model, THIRD);
}

#[test]
fn no_second_copy_is_loaded_ahead_while_a_model_has_no_place() {
    let mut bench = bench(&[ONE]);
    bench.add(OTHER, sized(10)).add(THIRD, sized(10));
    for model in [MODEL, OTHER, MODEL, OTHER, THIRD] {
        bench.after(ms(3000)).uses(model);
    }
    let kept = bench.holds(ONE);
    let profile = AdapterProfile { memory: Some(20), ..adapter(0, false) };
    bench.listed(&[(ONE, profile), (TWO, profile)]).set_mode(TWO, AdapterMode::On).opened(TWO);
    let Some(Loading { model, .. }) = bench.view(TWO).state.load else {
        panic!("it loads nothing")
    };
    assert!(!kept.contains(&model.0), "{model:?} of {kept:?}");
    bench.has(TWO, model);
    // All have a place now.
    bench.after(ms(10_000));
    assert_eq!(bench.state(TWO), "loading");
}

/// Two cards, of which each holds two of four models that are requested in turn, at a penalty of so
/// many millijoules for a late request.
fn two_cards(late_penalty_mj: u64) -> Bench {
    let mut bench = bench(&[ONE, TWO]);
    bench.add(OTHER, sized(10)).add(FOURTH, sized(10));
    let policy =
        Policy::Cost { goal: Goal::Balanced, price_mj: 0, late_penalty_mj, starts_per_hour: 1800 };
    bench.scheduler.world.settings.policy = policy;
    requests(&mut bench, 30, &[MODEL, OTHER, THIRD, FOURTH]);
    bench
}

/// Requests for these models in turn, one in 22 s.
fn requests(bench: &mut Bench, rounds: u32, models: &[ModelId]) {
    for model in (0..rounds).flat_map(|_| models) {
        bench.after(ms(20_000)).uses(*model);
    }
}

#[test]
fn an_adapter_stays_on_for_models_that_have_no_memory_elsewhere() {
    // At 1 W, a request in less than 200 s is worth staying on for: it would cost 100 J, and another
    // 100 J for the model that makes room.
    let mut bench = two_cards(100_000);
    bench.set_mode(ONE, AdapterMode::Auto).set_mode(TWO, AdapterMode::Auto);
    bench.after(ms(150_000));
    assert_eq!((bench.state(ONE), bench.state(TWO)), ("idle", "idle"));
    bench.after(ms(500_000));
    assert_ne!((bench.state(ONE), bench.state(TWO)), ("idle", "idle"), "for five pauses at most");
}

#[test]
fn adapter_turns_off_if_idling_costs_more_than_its_models_are_worth() {
    // At 1 W, a request in 44 s is not worth staying on for at 10 J, nor 10 J for what makes room.
    let mut bench = two_cards(10_000);
    bench.set_mode(TWO, AdapterMode::Auto);
    bench.after(ms(150_000));
    assert_eq!(bench.state(TWO), "stopping");
}

#[test]
fn adapter_turns_off_if_its_models_fit_elsewhere() {
    // The models of the first card were not requested for more than an hour: those of the second
    // may have their memory.
    let mut bench = two_cards(100_000);
    requests(&mut bench, 90, &[MODEL, OTHER]);
    assert_eq!((bench.holds(ONE), bench.holds(TWO)), (vec![2, 3], vec![0, 1]));
    bench.set_mode(TWO, AdapterMode::Auto);
    bench.after(ms(140_000));
    assert_eq!(bench.state(TWO), "stopping");
}

#[test]
fn loss_is_zero_if_nothing_is_evicted() {
    let bench = bench(&[ONE, TWO]);
    assert_eq!(
        super::super::eviction::loss(&bench.scheduler.world, bench.now, ONE, &[]).to_bits(),
        0.0_f64.to_bits()
    );
}
