//! Courses: the ways that problems may take through the lanes, and which of them share a row.
//!
//! Problems that differ in their courses alone (one image under several thresholds) take the same steps
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

/// Ways through the lanes: legs (start, end), the i-th in lane i.
#[derive(Clone, Debug, PartialEq)]
pub struct Courses {
    courses: Vec<Vec<(f64, f64)>>,
    stride: u64,
}

impl Courses {
    /// All problems go the same way.
    pub fn one(legs: &[(f64, f64)]) -> Self {
        Self {
            courses: vec![legs.to_vec()],
            stride: u64::MAX,
        }
    }

    /// Problem `key` goes the course `key / stride`; keys that are equal but for multiples of `stride`
    /// are the same problem on different courses.
    ///
    /// # Errors
    /// [`Error::Count`] without a course, a leg or a stride, [`Error::Course`] unless all courses begin
    /// at the same t in the same direction.
    pub fn new(courses: Vec<Vec<(f64, f64)>>, stride: u64) -> Result<Self, Error> {
        if stride == 0 {
            return Err(Error::Count { name: "stride" });
        }
        let Some(&(start, end)) = courses.first().and_then(|legs| legs.first()) else {
            return Err(Error::Count { name: "legs" });
        };
        for legs in &courses {
            let Some(&(from, to)) = legs.first() else {
                return Err(Error::Count { name: "legs" });
            };
            if from != start || (to > from) != (end > start) {
                return Err(Error::Course { from, to, start });
            }
        }
        Ok(Self { courses, stride })
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.courses.len()
    }

    /// The legs of a problem.
    ///
    /// # Panics
    /// Where the key names no course.
    pub fn legs(&self, key: u64) -> &[(f64, f64)] {
        &self.courses[(key / self.stride) as usize]
    }

    /// What a problem integrates in a lane that its course leads through.
    pub(crate) fn path(&self, key: u64, lane: usize) -> Path {
        let legs = self.legs(key);
        let (start, end) = legs[lane];
        Path {
            start,
            end,
            square: lane + 1 == legs.len(),
        }
    }

    /// A t inside a lane, for rows that hold no problem.
    pub(crate) fn idle(&self, lane: usize) -> f64 {
        self.courses
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

    fn fan() -> Courses {
        let legs = |end| vec![(-8.0, end), (end, 5.0)];
        Courses::new(vec![vec![(-8.0, 3.0)], legs(-2.0), legs(1.0)], 10)
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
    fn one_course_gives_every_key_a_row() {
        let parties = Courses::one(&[(0.0, 1.0)]).parties(&[4, 1 << 40]);
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
    fn courses_begin_together() {
        for other in [(-7.0, 3.0), (-8.0, -9.0)] {
            let refused = Courses::new(vec![vec![(-8.0, 3.0)], vec![other]], 10);
            assert!(matches!(refused, Err(Error::Course { .. })), "{other:?}");
        }
        assert!(matches!(
            Courses::new(vec![vec![]], 10),
            Err(Error::Count { .. })
        ));
        assert!(matches!(
            Courses::new(vec![vec![(0.0, 1.0)]], 0),
            Err(Error::Count { .. })
        ));
    }
}
