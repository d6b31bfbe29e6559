//! Routes: the ways that problems may take through the lanes, and which of them share a row.
//!
//! Problems that differ in their routes alone (one start under several thresholds) take the same steps
//! from a common start for as long as none would stop short. So they go as one row: its bearer has the
//! furthest end, the others ride along. A rider leaves at the last node from which it would still have
//! taken the same steps, with all that the row knows there, and goes on in a row of its own: what it
//! comes to is, to the last bit, what it would have come to alone.

use std::collections::HashMap;

use crate::error::Error;

/// One integration of a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Path {
    /// First t.
    pub start: f64,
    /// Last t, landed on exactly.
    pub end: f64,
    /// Whether |y|^2 is wanted at the end: it is that of the last leg.
    pub square: bool,
    /// Whether another leg goes on at the end as if there were none: with history and step size.
    pub soft: bool,
}

impl Path {
    /// The sign of a step.
    pub fn direction(&self) -> f64 {
        (self.end - self.start).signum()
    }

    /// Its length.
    pub fn span(&self) -> f64 {
        (self.end - self.start).abs()
    }
}

/// A problem that shares the row of another one, and where it would end.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rider {
    /// Names the problem.
    pub key: u64,
    /// What it would integrate alone; the start is the bearer's.
    pub path: Path,
}

/// A way through the lanes: legs (start, end), the i-th in lane i.
pub type Route = Vec<(f64, f64)>;

/// The routes of all problems.
#[derive(Clone, Debug, PartialEq)]
pub struct Routes {
    all: Vec<Route>,
    stride: u64,
    /// Lanes whose end is a soft joint.
    soft: Vec<usize>,
}

impl Routes {
    /// All problems go the same way.
    pub fn one(legs: &[(f64, f64)]) -> Self {
        Self {
            all: vec![legs.to_vec()],
            stride: u64::MAX,
            soft: Vec::new(),
        }
    }

    /// The same, where the right-hand side is smooth at the ends of these lanes: a row goes on in the next
    /// lane with all that it knows, and nothing is restarted.
    #[must_use]
    pub fn softly(self, lanes: Vec<usize>) -> Self {
        Self {
            soft: lanes,
            ..self
        }
    }

    /// Problem `key` goes the route `key / stride`; keys that are equal but for multiples of `stride`
    /// are the same problem on different routes.
    ///
    /// # Errors
    /// [`Error::Count`] without a route, a leg or, where there are several, a stride;
    /// [`Error::GammaRange`] for a leg without extent; [`Error::Route`] unless all routes begin at the
    /// same t in the same direction.
    pub fn new(routes: Vec<Route>, stride: u64) -> Result<Self, Error> {
        let firsts: Option<Vec<_>> = routes.iter().map(|legs| legs.first().copied()).collect();
        let Some(&[(start, end), ..]) = firsts.as_deref() else {
            return Err(Error::Count { name: "legs" });
        };
        let has_extent = |&&(min, max): &&(f64, f64)| min != max && (max - min).is_finite();
        if let Some(&(min, max)) = routes.iter().flatten().find(|leg| !has_extent(leg)) {
            return Err(Error::GammaRange { min, max });
        }
        if routes.len() == 1 {
            return Ok(Self::one(&routes[0]));
        }
        if stride == 0 {
            return Err(Error::Count { name: "stride" });
        }
        let elsewhere = |&&(from, to): &&(f64, f64)| from != start || (to > from) != (end > start);
        match firsts.iter().flatten().find(elsewhere) {
            Some(&(from, to)) => Err(Error::Route { from, to, start }),
            None => Ok(Self {
                all: routes,
                stride,
                soft: Vec::new(),
            }),
        }
    }

    /// Whether these problems can go them through so many lanes.
    ///
    /// # Errors
    /// [`Error::Length`] unless the longest has a leg in each lane, [`Error::Choice`] for a key that names
    /// no route.
    pub fn check(&self, keys: &[u64], lanes: usize) -> Result<(), Error> {
        let expected = self.all.iter().map(Vec::len).max().unwrap_or(0);
        if lanes != expected {
            return Err(Error::Length {
                name: "workspaces",
                expected,
                found: lanes,
            });
        }
        let outside = |key: &&u64| **key / self.stride >= self.all.len() as u64;
        match keys.iter().find(outside) {
            Some(key) => Err(Error::Choice {
                name: "key",
                value: key.to_string(),
                allowed: "below stride times the number of routes",
            }),
            None => Ok(()),
        }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.all.len()
    }

    /// The legs of a problem.
    ///
    /// # Panics
    /// Where the key names no route.
    pub fn legs(&self, key: u64) -> &[(f64, f64)] {
        &self.all[(key / self.stride) as usize]
    }

    /// What a problem integrates in a lane that its route leads through.
    pub(crate) fn path(&self, key: u64, lane: usize) -> Path {
        let legs = self.legs(key);
        let (start, end) = legs[lane];
        let is_last = lane + 1 == legs.len();
        Path {
            start,
            end,
            square: is_last,
            soft: !is_last && self.soft.contains(&lane),
        }
    }

    /// A t inside a lane, for rows that hold no problem.
    pub(crate) fn idle(&self, lane: usize) -> f64 {
        self.all
            .iter()
            .find_map(|legs| legs.get(lane))
            .map_or(0.0, |&(start, _)| start)
    }

    /// The problems that share a row from the start, in the order of their first: each bearer and its
    /// riders, those that end last first.
    pub(crate) fn parties(&self, keys: &[u64]) -> Vec<(u64, Vec<Rider>)> {
        let mut parties: Vec<Vec<Rider>> = Vec::new();
        let mut places: HashMap<u64, usize> = HashMap::new();
        for &key in keys {
            let place = *places.entry(key % self.stride).or_insert(parties.len());
            if place == parties.len() {
                parties.push(Vec::new());
            }
            parties[place].push(Rider {
                key,
                path: self.path(key, 0),
            });
        }
        parties
            .into_iter()
            .map(|mut party| {
                party.sort_by(|a, b| b.path.span().total_cmp(&a.path.span()));
                let bearer = party.remove(0);
                (bearer.key, party)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fan() -> Routes {
        let legs = |end| vec![(-8.0, end), (end, 5.0)];
        Routes::new(vec![vec![(-8.0, 3.0)], legs(-2.0), legs(1.0)], 10)
            .expect("all begin at -8, upwards")
    }

    #[test]
    fn the_furthest_bears_the_others() {
        let parties = fan().parties(&[13, 3, 23, 24, 14]);
        let keys: Vec<(u64, Vec<u64>)> = parties
            .iter()
            .map(|(key, riders)| (*key, riders.iter().map(|rider| rider.key).collect()))
            .collect();
        assert_eq!(keys, [(3, vec![23, 13]), (24, vec![14])]);
    }

    #[test]
    fn one_route_gives_every_key_a_row() {
        let parties = Routes::one(&[(0.0, 1.0)]).parties(&[4, 1 << 40]);
        assert_eq!(parties, [(4, vec![]), (1 << 40, vec![])]);
    }

    #[test]
    fn the_square_is_wanted_at_the_end_of_the_last_leg() {
        assert!(fan().path(3, 0).square);
        assert!(!fan().path(13, 0).square);
        assert!(fan().path(13, 1).square);
        assert_eq!(fan().idle(1), -2.0);
    }

    #[test]
    fn routes_begin_together() {
        for other in [(-7.0, 3.0), (-8.0, -9.0)] {
            let refused = Routes::new(vec![vec![(-8.0, 3.0)], vec![other]], 10);
            assert!(matches!(refused, Err(Error::Route { .. })), "{other:?}");
        }
        assert!(matches!(
            Routes::new(vec![vec![]], 10),
            Err(Error::Count { .. })
        ));
        assert!(matches!(
            Routes::new(vec![vec![(0.0, 1.0)]; 2], 0),
            Err(Error::Count { .. })
        ));
        assert!(matches!(
            Routes::new(vec![vec![(0.0, 1.0), (1.0, 1.0)]], 0),
            Err(Error::GammaRange { .. })
        ));
    }

    #[test]
    fn every_key_has_a_route_and_every_leg_a_lane() {
        assert_eq!(fan().check(&[0, 29], 2), Ok(()));
        assert!(matches!(fan().check(&[30], 2), Err(Error::Choice { .. })));
        assert!(matches!(fan().check(&[], 1), Err(Error::Length { .. })));
    }
}
