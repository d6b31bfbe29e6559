//! A workspace without any cleverness, which counts its verbs, and flows whose solutions are known.
#![allow(dead_code, unreachable_pub, reason = "each test file takes its part")]

use std::cell::RefCell;
use std::collections::HashMap;
use std::convert::Infallible;
use std::rc::Rc;

use merged_diffusion_core::control::Tolerance;
use merged_diffusion_core::gamma::{alpha, sigma, sigma_squared};
use merged_diffusion_core::workspace::{Column, Columns, Spans, Target, Workspace};

/// What a network answers at (t, key, y): its output, and q.
pub type Network = Box<dyn FnMut(f64, u64, &[f64]) -> (Vec<f64>, f64)>;

pub type Store = Rc<RefCell<HashMap<u64, Vec<f64>>>>;

pub type Kept = Rc<RefCell<HashMap<u64, Vec<(usize, Vec<f64>)>>>>;

/// Calls of each verb.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    pub combine: u64,
    pub evaluate: u64,
    pub scaled_square: u64,
    pub gram: u64,
    pub collect: u64,
    pub accept: u64,
    pub load: u64,
    pub save: u64,
}

pub struct Naive {
    dim: usize,
    slots: usize,
    start: Box<dyn Fn(u64) -> Vec<f64>>,
    network: Network,
    keys: Vec<u64>,
    state: Vec<Vec<f64>>,
    trial: Vec<Vec<f64>>,
    input: Vec<Vec<f64>>,
    stored: Vec<Vec<Vec<f64>>>,
    columns: Columns,
    /// Slots of rows that went on elsewhere, by key: give the workspaces of one solve the same.
    pub kept: Kept,
    /// States between legs: give the workspaces of one solve the same.
    pub saved: Store,
    pub calls: Calls,
    /// Node of every evaluation of the first row.
    pub nodes: Vec<u64>,
}

impl Naive {
    pub fn new(
        rows: usize,
        dim: usize,
        slots: usize,
        start: impl Fn(u64) -> Vec<f64> + 'static,
        network: impl FnMut(f64, u64, &[f64]) -> (Vec<f64>, f64) + 'static,
    ) -> Self {
        // Whoever reads what was never written shows it.
        let rubbish = vec![vec![f64::NAN; dim]; rows];
        Self {
            dim,
            slots,
            start: Box::new(start),
            network: Box::new(network),
            keys: vec![u64::MAX; rows],
            state: rubbish.clone(),
            trial: rubbish.clone(),
            input: rubbish.clone(),
            stored: vec![vec![vec![f64::NAN; dim]; slots]; rows],
            columns: Columns::default(),
            kept: Kept::default(),
            saved: Store::default(),
            calls: Calls::default(),
            nodes: Vec::new(),
        }
    }

    pub fn state(&self, row: usize) -> &[f64] {
        &self.state[row]
    }

    fn combination(&self, row: usize, spans: &Spans) -> Vec<f64> {
        (0..self.dim)
            .map(|i| {
                let mut sum = 0.0;
                if spans.scale()[row] != 0.0 {
                    sum += spans.scale()[row] * self.state[row][i];
                }
                for (slot, &weight) in spans.row(row).iter().enumerate() {
                    if weight != 0.0 {
                        sum += weight * self.stored[row][slot][i];
                    }
                }
                sum
            })
            .collect()
    }
}

impl Workspace for Naive {
    type Error = Infallible;

    fn load(&mut self, row: usize, key: u64) -> Result<(), Infallible> {
        self.calls.load += 1;
        self.keys[row] = key;
        let saved = self.saved.borrow_mut().remove(&key);
        self.state[row] = saved.unwrap_or_else(|| (self.start)(key));
        // Whatever lies in a row is another problem's.
        self.stored[row].fill(vec![f64::NAN; self.dim]);
        let kept = self.kept.borrow_mut().remove(&key);
        for (slot, values) in kept.unwrap_or_default() {
            self.stored[row][slot] = values;
        }
        Ok(())
    }

    fn save(&mut self, row: usize, key: u64, slots: &[usize]) -> Result<(), Infallible> {
        self.calls.save += 1;
        let kept = slots
            .iter()
            .map(|&slot| (slot, self.stored[row][slot].clone()));
        let kept = kept.collect();
        self.kept.borrow_mut().insert(key, kept);
        self.saved.borrow_mut().insert(key, self.state[row].clone());
        Ok(())
    }

    fn combine(&mut self, target: Target, spans: &Spans) -> Result<(), Infallible> {
        self.calls.combine += 1;
        for row in 0..self.keys.len() {
            let sum = self.combination(row, spans);
            match target {
                Target::Input => {
                    self.input[row] = sum;
                    // Writing the input may use the trial as scratch: spoil it.
                    self.trial[row].fill(f64::NAN);
                }
                Target::Trial => self.trial[row] = sum,
                Target::Both => {
                    self.input[row].clone_from(&sum);
                    self.trial[row] = sum;
                }
            }
        }
        Ok(())
    }

    fn evaluate(
        &mut self,
        t: &[f64],
        node: &[u64],
        slot: &[Option<usize>],
    ) -> Result<Column, Infallible> {
        self.calls.evaluate += 1;
        self.nodes.push(node[0]);
        let mut column = vec![f64::NAN; self.keys.len()];
        for row in 0..self.keys.len() {
            let Some(slot) = slot[row] else { continue };
            let (output, q) = (self.network)(t[row], self.keys[row], &self.input[row]);
            let is_finite = output.iter().all(|value| value.is_finite());
            self.stored[row][slot] = if is_finite {
                output
            } else {
                vec![0.0; self.dim]
            };
            column[row] = if is_finite { q } else { f64::NAN };
        }
        Ok(self.columns.queue(column))
    }

    fn scaled_square(&mut self, spans: &Spans, tolerance: Tolerance) -> Result<Column, Infallible> {
        self.calls.scaled_square += 1;
        let sums = (0..self.keys.len()).map(|row| -> f64 {
            let sum = self.combination(row, spans);
            let square = (0..self.dim).map(|i| {
                let magnitude = self.state[row][i].abs().max(self.trial[row][i].abs());
                tolerance.ratio(sum[i], magnitude).powi(2)
            });
            square.sum()
        });
        let sums: Vec<f64> = sums.collect();
        Ok(self.columns.queue(sums))
    }

    fn gram(&mut self, new: &[Option<usize>]) -> Result<Column, Infallible> {
        self.calls.gram += 1;
        let mut products = Vec::new();
        for (stored, new) in self.stored.iter().zip(new) {
            for slot in 0..self.slots {
                products.push(new.map_or(f64::NAN, |new| {
                    stored[new]
                        .iter()
                        .zip(&stored[slot])
                        .map(|(a, b)| a * b)
                        .sum()
                }));
            }
        }
        Ok(self.columns.queue(products))
    }

    fn collect(&mut self) -> Result<Columns, Infallible> {
        self.calls.collect += 1;
        Ok(std::mem::take(&mut self.columns))
    }

    fn accept(&mut self, mask: &[bool]) -> Result<(), Infallible> {
        self.calls.accept += 1;
        for row in (0..mask.len()).filter(|&row| mask[row]) {
            let trial = self.trial[row].clone();
            self.state[row] = trial;
        }
        Ok(())
    }
}

/// Noise predictor of data that is N(0, s^2) per value, and q = sigma tr(d `eps_hat` / dz).
pub fn gaussian(s: f64) -> impl Fn(f64, u64, &[f64]) -> (Vec<f64>, f64) {
    move |gamma, _, z| {
        let slope = sigma(gamma) / variance(gamma, s);
        let output = z.iter().map(|z| slope * z).collect();
        (output, sigma(gamma) * slope * z.len() as f64)
    }
}

/// Variance of alpha x + sigma eps for x of standard deviation s.
pub fn variance(gamma: f64, s: f64) -> f64 {
    (alpha(gamma) * s).powi(2) + sigma_squared(gamma)
}
