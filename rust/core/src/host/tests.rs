//! The fast loops against a naive oracle, and what must not change a row's bits.

use std::fmt::Debug;

use proptest::prelude::*;
use rayon::ThreadPoolBuilder;

use super::Slot;
use super::arrival::Arrival;
use super::buffers::Buffers;
use crate::Error;
use crate::control::Tolerance;
use crate::threads::SERIAL;
use crate::workspace::{Spans, Target};

/// The verbs without any cleverness, one value at a time.
#[derive(Clone)]
struct Oracle<S> {
    state: Vec<Vec<f64>>,
    trial: Vec<Vec<f64>>,
    input: Vec<Vec<S>>,
    slots: Vec<Vec<Vec<S>>>,
}

impl<S: Slot> Oracle<S> {
    fn new(rows: usize, dim: usize, slots: usize) -> Self {
        Self {
            state: vec![vec![0.0; dim]; rows],
            trial: vec![vec![0.0; dim]; rows],
            input: vec![vec![S::ZERO; dim]; rows],
            slots: vec![vec![vec![S::ZERO; dim]; slots]; rows],
        }
    }

    fn combination(&self, row: usize, i: usize, spans: &Spans) -> f64 {
        let scale = spans.scale()[row];
        let mut sum = if scale == 0.0 {
            0.0
        } else {
            scale * self.state[row][i]
        };
        for (slot, &weight) in self.slots[row].iter().zip(spans.row(row)) {
            if weight != 0.0 {
                sum += weight * slot[i].wide();
            }
        }
        sum
    }

    fn combine(&mut self, target: Target, spans: &Spans) {
        for row in 0..self.state.len() {
            for i in 0..self.state[row].len() {
                let value = self.combination(row, i, spans);
                if target != Target::Trial {
                    self.input[row][i] = S::narrow(value);
                }
                if target != Target::Input {
                    self.trial[row][i] = value;
                }
            }
        }
    }

    fn store(&mut self, slot: &[Option<usize>], output: &[S]) -> Vec<bool> {
        let dim = self.state[0].len();
        let rows = output.chunks(dim).zip(slot).enumerate();
        rows.map(|(row, (output, slot))| {
            let Some(slot) = *slot else { return true };
            let is_finite = output.iter().all(|value| value.wide().is_finite());
            self.slots[row][slot] = if is_finite {
                output.to_vec()
            } else {
                vec![S::ZERO; dim]
            };
            is_finite
        })
        .collect()
    }

    fn scaled_square(&self, spans: &Spans, tolerance: Tolerance) -> Vec<f64> {
        (0..self.state.len())
            .map(|row| {
                (0..self.state[row].len())
                    .map(|i| {
                        let magnitude = self.state[row][i].abs().max(self.trial[row][i].abs());
                        tolerance
                            .ratio(self.combination(row, i, spans), magnitude)
                            .powi(2)
                    })
                    .sum()
            })
            .collect()
    }

    fn gram(&self, new: &[Option<usize>]) -> Vec<f64> {
        let rows = self.slots.iter().zip(new);
        rows.flat_map(|(slots, new)| {
            slots.iter().map(move |slot| {
                new.map_or(f64::NAN, |new| {
                    let pairs = slot.iter().zip(&slots[new]);
                    pairs.map(|(a, b)| a.wide() * b.wide()).sum()
                })
            })
        })
        .collect()
    }

    fn accept(&mut self, mask: &[bool]) {
        for row in (0..mask.len()).filter(|&row| mask[row]) {
            self.state[row] = self.trial[row].clone();
        }
    }
}

#[derive(Clone, Debug)]
enum Verb {
    Fill(usize, u64),
    Combine(Target, Spans),
    Store(Vec<Option<usize>>, u64),
    StoreAndCombine(Vec<Option<usize>>, u64, Target, Spans),
    StoreAndScaledSquare(Vec<Option<usize>>, u64, Spans),
    StoreAndCombineAndGram(Vec<Option<usize>>, u64, Spans, Vec<Option<usize>>),
    ScaledSquare(Spans),
    Gram(Vec<Option<usize>>),
    Accept(Vec<bool>),
}

/// Rows, values and slots of a session, and what happens in it.
#[derive(Clone, Debug)]
struct Session {
    rows: usize,
    dim: usize,
    slots: usize,
    verbs: Vec<Verb>,
}

/// Values in [-2, 2], named by a seed: cheaper to draw and to shrink than each value by itself.
fn values(seed: u64, n: usize) -> impl Iterator<Item = f64> {
    let mut bits = seed;
    (0..n).map(move |_| {
        bits = bits
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (bits >> 11) as f64 / (1_u64 << 51) as f64 - 2.0
    })
}

/// An output of the network; one in four has a row with a value that is not finite.
fn output<S: Slot>(seed: u64, n: usize) -> Vec<S> {
    let mut output: Vec<S> = values(seed, n).map(S::narrow).collect();
    let odd = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
    if n > 0 && seed % 4 == 0 {
        output[(seed / 4) as usize % n] = S::narrow(odd[(seed % 3) as usize]);
    }
    output
}

fn weight() -> impl Strategy<Value = f64> {
    prop_oneof![Just(0.0), Just(-0.0), -2.0..2.0_f64]
}

fn spans(rows: usize, slots: usize) -> impl Strategy<Value = Spans> {
    let row = (weight(), prop::collection::vec(weight(), slots));
    prop::collection::vec(row, rows).prop_map(move |drawn| {
        let mut spans = Spans::zeros(rows, slots);
        for (row, (scale, weights)) in drawn.iter().enumerate() {
            spans.set_scale(row, *scale);
            for (slot, &weight) in weights.iter().enumerate() {
                spans.set_weight(row, slot, weight);
            }
        }
        spans
    })
}

fn verb(rows: usize, slots: usize) -> impl Strategy<Value = Verb> {
    let target = || prop_oneof![Just(Target::Input), Just(Target::Trial), Just(Target::Both)];
    let slot = || prop::collection::vec(prop::option::weighted(0.8, 0..slots), rows);
    prop_oneof![
        (0..rows, any::<u64>()).prop_map(|(row, seed)| Verb::Fill(row, seed)),
        (target(), spans(rows, slots)).prop_map(|(target, spans)| Verb::Combine(target, spans)),
        (slot(), any::<u64>(), target(), spans(rows, slots)).prop_map(
            |(slot, seed, target, spans)| Verb::StoreAndCombine(slot, seed, target, spans)
        ),
        (slot(), any::<u64>(), spans(rows, slots))
            .prop_map(|(slot, seed, spans)| Verb::StoreAndScaledSquare(slot, seed, spans)),
        (slot(), any::<u64>(), spans(rows, slots), slot()).prop_map(|(slot, seed, spans, new)| {
            Verb::StoreAndCombineAndGram(slot, seed, spans, new)
        }),
        (slot(), any::<u64>()).prop_map(|(slot, seed)| Verb::Store(slot, seed)),
        spans(rows, slots).prop_map(Verb::ScaledSquare),
        slot().prop_map(Verb::Gram),
        prop::collection::vec(any::<bool>(), rows).prop_map(Verb::Accept),
    ]
}

/// More slots than the fixed loops know (eight, nine) and lengths off the lanes belong to it.
fn session() -> impl Strategy<Value = Session> {
    (1..5_usize, 1..40_usize, 1..10_usize).prop_flat_map(|(rows, dim, slots)| {
        prop::collection::vec(verb(rows, slots), 1..30).prop_map(move |verbs| Session {
            rows,
            dim,
            slots,
            verbs,
        })
    })
}

/// Whatever order a sum of n products is taken in, it differs from another by less than n eps times
/// the sum of their magnitudes, which `scale` bounds.
fn close(found: &[f64], expected: &[f64], scale: f64) -> Result<(), TestCaseError> {
    prop_assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        prop_assert_eq!(found.is_nan(), expected.is_nan());
        prop_assert!(
            found.is_nan() || (found - expected).abs() <= scale * f64::EPSILON,
            "{} {}",
            found,
            expected
        );
    }
    Ok(())
}

fn agrees<S: Slot + PartialEq + Debug>(session: &Session) -> Result<(), TestCaseError> {
    let &Session {
        rows, dim, slots, ..
    } = session;
    let mut host = Buffers::<S>::new(rows, dim, slots).expect("memory");
    let mut oracle = Oracle::<S>::new(rows, dim, slots);
    let mut input = vec![S::ZERO; rows * dim];
    let tolerance = Tolerance::new(1e-2, 1e-2).expect("both are positive");
    for verb in &session.verbs {
        match verb {
            &Verb::Fill(row, seed) => {
                let start: Vec<f64> = values(seed, dim).collect();
                prop_assert!(host.fill(row, &start).is_ok());
                oracle.state[row].clone_from(&start);
                oracle.trial[row] = start;
            }
            Verb::Combine(target, spans) => {
                // Nothing is to be read where the weight is zero: rubbish there must not show.
                let spoilt = spoil(&mut host, spans);
                host.combine(None, *target, spans, &mut input);
                mend(&mut host, &spoilt);
                oracle.combine(*target, spans);
            }
            Verb::Store(slot, seed) => {
                let output = output::<S>(*seed, rows * dim);
                prop_assert_eq!(
                    host.store(Arrival {
                        slot,
                        output: &output
                    }),
                    oracle.store(slot, &output)
                );
            }
            Verb::StoreAndCombine(slot, seed, target, spans) => {
                let output = output::<S>(*seed, rows * dim);
                let arrival = Arrival {
                    slot,
                    output: &output,
                };
                let finite = host.combine(Some(arrival), *target, spans, &mut input);
                prop_assert_eq!(finite, oracle.store(slot, &output));
                oracle.combine(*target, spans);
            }
            Verb::StoreAndScaledSquare(slot, seed, spans) => {
                let output = output::<S>(*seed, rows * dim);
                let arrival = Arrival {
                    slot,
                    output: &output,
                };
                let (found, finite) = host.scaled_square(Some(arrival), spans, tolerance);
                prop_assert_eq!(finite, oracle.store(slot, &output));
                let largest = found.iter().fold(1.0, |a: f64, &b| a.max(b));
                let scale = (dim + 8) as f64 * largest;
                close(&found, &oracle.scaled_square(spans, tolerance), scale)?;
            }
            Verb::StoreAndCombineAndGram(slot, seed, spans, new) => {
                let output = output::<S>(*seed, rows * dim);
                let arrival = Arrival {
                    slot,
                    output: &output,
                };
                let (found, finite) = host.combine_and_gram(Some(arrival), spans, new);
                prop_assert_eq!(finite, oracle.store(slot, &output));
                oracle.combine(Target::Trial, spans);
                // The very bits of the two verbs one after the other.
                let bits = |values: &[f64]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
                prop_assert_eq!(bits(&found), bits(&host.gram(new)));
                let scale = 4.0 * (dim * dim) as f64;
                close(&found, &oracle.gram(new), scale)?;
            }
            Verb::ScaledSquare(spans) => {
                let spoilt = spoil(&mut host, spans);
                let found = host.scaled_square(None, spans, tolerance).0;
                mend(&mut host, &spoilt);
                let largest = found.iter().fold(1.0, |a: f64, &b| a.max(b));
                // Two roundings a factor on top of the sum's.
                let scale = (dim + 8) as f64 * largest;
                close(&found, &oracle.scaled_square(spans, tolerance), scale)?;
            }
            Verb::Gram(new) => {
                let scale = 4.0 * (dim * dim) as f64;
                close(&host.gram(new), &oracle.gram(new), scale)?;
            }
            Verb::Accept(mask) => {
                host.accept(mask);
                oracle.accept(mask);
                // Accepting twice without a new trial is nobody's wish: the halves have swapped.
                let mut same = Spans::zeros(rows, slots);
                (0..rows).for_each(|row| same.set_scale(row, 1.0));
                host.combine(None, Target::Trial, &same, &mut input);
                oracle.combine(Target::Trial, &same);
            }
        }
        for row in 0..rows {
            prop_assert_eq!(host.state(row), &oracle.state[row][..]);
            prop_assert_eq!(host.trial(row), &oracle.trial[row][..]);
            prop_assert_eq!(&input[row * dim..][..dim], &oracle.input[row][..]);
            for slot in 0..slots {
                prop_assert_eq!(host.slot(row, slot), &oracle.slots[row][slot][..]);
            }
        }
    }
    Ok(())
}

/// Puts NaN into every slot that weighs nothing; returns what was there.
fn spoil<S: Slot>(host: &mut Buffers<S>, spans: &Spans) -> Vec<(usize, Vec<S>)> {
    let mut kept = Vec::new();
    for row in 0..host.current.len() {
        for slot in (0..host.slots).filter(|&slot| spans.row(row)[slot] == 0.0) {
            let start = (row * host.slots + slot) * host.dim;
            let values = &mut host.stored[start..][..host.dim];
            kept.push((start, values.to_vec()));
            values.fill(S::narrow(f64::NAN));
        }
    }
    kept
}

fn mend<S: Slot>(host: &mut Buffers<S>, kept: &[(usize, Vec<S>)]) {
    for (start, values) in kept {
        host.stored[*start..][..values.len()].copy_from_slice(values);
    }
}

impl<S: Slot> Buffers<S> {
    fn trial(&self, row: usize) -> &[f64] {
        &self.halves[(2 * row + 1 - self.current[row]) * self.dim..][..self.dim]
    }
}

proptest! {
    #[test]
    fn verbs_agree_with_the_oracle_in_float64(session in session()) {
        agrees::<f64>(&session)?;
    }

    #[test]
    fn verbs_agree_with_the_oracle_in_float32(session in session()) {
        agrees::<f32>(&session)?;
    }
}

/// All that a step leaves behind: inputs, sums, inner products, new states.
#[derive(Debug, PartialEq)]
struct Left<S>(Vec<S>, Vec<u64>, Vec<u64>, Vec<Vec<f64>>);

/// Takes a step with rows named by `keys`, so that a row's contents go with its key.
fn step<S: Slot>(keys: &[u64], dim: usize) -> Left<S> {
    const SLOTS: usize = 7;
    let rows = keys.len();
    let mut host = Buffers::<S>::new(rows, dim, SLOTS).expect("memory");
    let mut spans = Spans::zeros(rows, SLOTS);
    for (row, &key) in keys.iter().enumerate() {
        let start: Vec<f64> = values(key, dim).collect();
        assert!(host.fill(row, &start).is_ok());
        spans.set_scale(row, 0.9);
        for (slot, weight) in values(key + 50, SLOTS).enumerate() {
            spans.set_weight(row, slot, if slot == 3 { 0.0 } else { weight });
        }
    }
    for slot in 0..SLOTS {
        let seeds = keys.iter().map(|key| 10 * key + slot as u64 + 1);
        let output: Vec<S> = seeds
            .flat_map(|seed| values(seed, dim).map(S::narrow))
            .collect();
        assert!(
            host.store(Arrival {
                slot: &vec![Some(slot); rows],
                output: &output
            })
            .iter()
            .all(|&finite| finite)
        );
    }
    let mut input = vec![S::ZERO; rows * dim];
    host.combine(None, Target::Both, &spans, &mut input);
    let squares = host.scaled_square(None, &spans, Tolerance::UNIT).0;
    let products = host.gram(&vec![Some(2); rows]);
    host.accept(&vec![true; rows]);
    let bits = |values: &[f64]| values.iter().map(|value| value.to_bits()).collect();
    let states = (0..rows).map(|row| host.state(row).to_vec()).collect();
    Left(input, bits(&squares), bits(&products), states)
}

#[test]
fn a_row_is_unmoved_by_threads_neighbours_and_place() {
    let dim = 1003;
    let keys: Vec<u64> = (0..40).collect();
    assert!(keys.len() * dim > SERIAL && dim < SERIAL);
    let alone = step::<f32>(&[11], dim);
    for threads in [1, 2, 3, 8] {
        let pool = ThreadPoolBuilder::new().num_threads(threads).build();
        let crowd = pool
            .expect("threads start")
            .install(|| step::<f32>(&keys, dim));
        assert_eq!(alone.0, crowd.0[11 * dim..][..dim], "{threads} threads");
        assert_eq!(alone.1, crowd.1[11..][..1], "{threads} threads");
        assert_eq!(alone.2, crowd.2[11 * 7..][..7], "{threads} threads");
        assert_eq!(alone.3, crowd.3[11..][..1], "{threads} threads");
    }
}

#[test]
fn a_row_where_nothing_weighs_gets_zeros() {
    let mut host = Buffers::<f32>::new(2, 3, 2).expect("memory");
    assert_eq!(host.fill(1, &[f64::NAN; 3]), Ok(()));
    let mut input = vec![1.0; 6];
    let spans = Spans::zeros(2, 2);
    host.combine(None, Target::Input, &spans, &mut input);
    assert_eq!(input, [0.0; 6]);
    assert_eq!(
        host.scaled_square(None, &spans, Tolerance::UNIT).0,
        [0.0; 2]
    );
    host.combine(None, Target::Both, &spans, &mut input);
    assert_eq!(host.trial(1), [0.0; 3]);
}

#[test]
fn a_state_of_scale_zero_is_not_read() {
    let mut host = Buffers::<f64>::new(1, 9, 2).expect("memory");
    assert_eq!(host.fill(0, &[f64::NAN; 9]), Ok(()));
    assert_eq!(
        host.store(Arrival {
            slot: &[Some(1)],
            output: &[3.0; 9]
        }),
        [true]
    );
    let mut spans = Spans::zeros(1, 2);
    spans.set_weight(0, 1, 0.5);
    let mut input = [0.0; 9];
    host.combine(None, Target::Both, &spans, &mut input);
    assert_eq!(input, [1.5; 9]);
    host.accept(&[true]);
    host.combine(None, Target::Trial, &spans, &mut input);
    assert_eq!(
        host.scaled_square(None, &spans, Tolerance::UNIT).0,
        [9.0 * 2.25]
    );
}

#[test]
fn input_alone_leaves_the_trial() {
    let mut host = Buffers::<f64>::new(1, 2, 1).expect("memory");
    assert_eq!(host.fill(0, &[1.0, 2.0]), Ok(()));
    let mut spans = Spans::zeros(1, 1);
    spans.set_scale(0, 3.0);
    host.combine(None, Target::Input, &spans, &mut [0.0; 2]);
    assert_eq!(host.trial(0), [1.0, 2.0]);
}

#[test]
fn one_value_that_is_not_finite_empties_its_row_alone() {
    for odd in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for place in [0, 4, 16] {
            let mut host = Buffers::<f32>::new(3, 17, 2).expect("memory");
            let slot = [Some(1), Some(1), None];
            assert_eq!(
                host.store(Arrival {
                    slot: &slot,
                    output: &[1.0; 51]
                }),
                [true; 3]
            );
            let mut output = [2.0; 51];
            output[17 + place] = odd;
            output[34] = odd;
            assert_eq!(
                host.store(Arrival {
                    slot: &slot,
                    output: &output
                }),
                [true, false, true]
            );
            assert_eq!(host.slot(0, 1), [2.0; 17]);
            assert_eq!(host.slot(1, 1), [0.0; 17]);
            assert_eq!(host.slot(2, 1), [0.0; 17]);
        }
    }
}

#[test]
fn a_trial_that_is_no_number_is_told() {
    let mut host = Buffers::<f64>::new(1, 9, 1).expect("memory");
    assert_eq!(host.fill(0, &[1.0; 9]), Ok(()));
    assert_eq!(
        host.store(Arrival {
            slot: &[Some(0)],
            output: &[1.0; 9]
        }),
        [true]
    );
    let mut spans = Spans::zeros(1, 1);
    spans.set_scale(0, 1.0);
    spans.set_weight(0, 0, f64::NAN);
    host.combine(None, Target::Trial, &spans, &mut [0.0; 9]);
    spans.set_weight(0, 0, 1.0);
    let tolerance = Tolerance::new(1e-3, 1e-3).expect("both are positive");
    assert!(host.scaled_square(None, &spans, tolerance).0[0].is_nan());
}

#[test]
fn a_start_of_another_length_is_refused() {
    let mut host = Buffers::<f64>::new(2, 3, 1).expect("memory");
    let refused = Error::Length {
        name: "start",
        expected: 3,
        found: 4,
    };
    assert_eq!(host.fill(0, &[0.0; 4]), Err(refused));
    assert_eq!(host.state(0), [0.0; 3]);
}

#[test]
fn buffers_that_no_system_holds_are_an_error() {
    let found = Buffers::<f64>::new(1 << 40, 1 << 20, 7).err();
    assert!(matches!(found, Some(Error::Memory { .. })), "{found:?}");
}

#[test]
fn no_rows_are_no_error() {
    assert!(
        Buffers::<f32>::new(0, 3, 2)
            .expect("memory")
            .gram(&[])
            .is_empty()
    );
}
