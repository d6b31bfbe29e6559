//! Legs and thresholds of pairs, against the paper's ranges.

use merged_diffusion_core::Error;
use merged_diffusion_core::gamma::{GammaRange, Given, Threshold};
use merged_diffusion_core::merge::{Alone, Leg, Merged, Pair, Switch, Toward};

const PAPER: (GammaRange, GammaRange) = (GammaRange::VDM, GammaRange::EDM);

fn paper() -> Pair {
    Pair::new(PAPER.0, PAPER.1, None).unwrap()
}

fn paper_at(given: Given) -> Result<(Merged, Switch), Error> {
    paper().merge(Threshold::new(given)?, Alone::Native, false)
}

fn ends(merged: &Merged) -> (f64, f64) {
    (merged.gamma_range().min(), merged.gamma_range().max())
}

fn assert_covers(legs: &[Leg], start: f64, end: f64) {
    assert_eq!((legs[0].start, legs[legs.len() - 1].end), (start, end));
    for pair in legs.windows(2) {
        assert_eq!(pair[0].end, pair[1].start);
    }
}

#[test]
fn legs_cover_the_range_without_gap() {
    for thousandth in 40..=829 {
        let eta = f64::from(thousandth) / 1000.0;
        let (merged, switch) = paper_at(Given::Eta(eta)).unwrap();
        let legs = merged.legs(Toward::Noise);
        assert_covers(&legs, -13.3, 8.764);
        assert_eq!((legs[0].expert, legs[1].expert), (0, 1));
        assert_eq!(switch.gamma, Some(legs[0].end));
        assert_eq!(switch.eta, eta);
        let back = merged.legs(Toward::Data);
        assert_covers(&back, 8.764, -13.3);
        assert_eq!((back[0].expert, back[1].expert), (1, 0));
    }
}

#[test]
fn any_number_of_experts_has_a_leg_each() {
    let range = |min, max| GammaRange::new(min, max).unwrap();
    let ranges = [range(-10.0, 0.0), range(-5.0, 5.0), range(-1.0, 9.0)];
    let merged = Merged::new(&ranges, &[-3.0, 2.0], false).unwrap();
    let legs = merged.legs(Toward::Noise);
    assert_covers(&legs, -10.0, 9.0);
    assert_eq!(
        legs.iter().map(|leg| leg.expert).collect::<Vec<_>>(),
        [0, 1, 2]
    );
    let merged = Merged::new(&ranges, &[-1.0, -1.0], false).unwrap();
    assert_eq!(merged.legs(Toward::Noise).len(), 2);
    let outside = Merged::new(&ranges, &[-6.0, 2.0], false);
    assert!(matches!(
        outside,
        Err(Error::OutsideLeg {
            gamma: -6.0,
            expert: 1,
            ..
        })
    ));
    let merged = Merged::new(&ranges, &[-6.0, 2.0], true).unwrap();
    let marks: Vec<_> = merged
        .legs(Toward::Noise)
        .iter()
        .map(|leg| leg.extrapolated)
        .collect();
    assert_eq!(marks, [false, true, false]);
    assert!(matches!(
        Merged::new(&ranges, &[2.0, -3.0], true),
        Err(Error::GammaRange { .. })
    ));
    assert!(matches!(
        Merged::new(&ranges, &[2.0], true),
        Err(Error::Length { .. })
    ));
    assert!(matches!(
        Merged::new(&[], &[], true),
        Err(Error::Count { .. })
    ));
}

#[test]
fn an_expert_alone_is_one_leg() {
    let merged = Merged::new(&[GammaRange::VDM], &[], false).unwrap();
    assert_eq!(merged.legs(Toward::Noise).len(), 1);
    assert_eq!(ends(&merged), (-13.3, 5.0));
}

#[test]
fn eta_zero_and_one_are_the_experts_on_their_own_ranges() {
    let (merged, switch) = paper_at(Given::Eta(0.0)).unwrap();
    assert_eq!(
        (ends(&merged), merged.legs(Toward::Noise)[0].expert),
        ((-12.43, 8.764), 1)
    );
    assert_eq!(
        (switch.gamma, switch.edm_sigma(), switch.log_snr()),
        (None, None, None)
    );
    let (merged, switch) = paper_at(Given::Eta(1.0)).unwrap();
    assert_eq!(
        (ends(&merged), merged.legs(Toward::Noise)[0].expert),
        ((-13.3, 5.0), 0)
    );
    assert_eq!(switch.eta, 1.0);
}

#[test]
fn an_expert_alone_on_the_merged_range_leaves_its_own() {
    for eta in [0.0, 1.0] {
        let threshold = Threshold::new(Given::Eta(eta)).unwrap();
        let refused = paper().merge(threshold, Alone::Merged, false);
        assert!(matches!(refused, Err(Error::OutsideExpert { .. })));
        let (merged, _) = paper().merge(threshold, Alone::Merged, true).unwrap();
        assert_eq!(ends(&merged), (-13.3, 8.764));
        assert!(merged.extrapolated());
    }
}

#[test]
fn thresholds_that_an_expert_was_not_trained_for_are_refused_in_the_users_words() {
    let message = |given| paper_at(given).unwrap_err().to_string();
    assert_eq!(
        message(Given::Eta(0.02)),
        "eta = 0.02 lies below 0.0394, where the quality expert was not trained (gamma < -12.43)"
    );
    assert_eq!(
        message(Given::Eta(0.9)),
        "eta = 0.9 lies above 0.8294, where the likelihood expert was not trained (gamma > 5)"
    );
    assert_eq!(
        message(Given::Gamma(-13.0)),
        "gamma = -13 lies below -12.43, where the quality expert was not trained"
    );
    assert_eq!(
        message(Given::LogSnr(13.0)),
        "logsnr = 13 lies above 12.43, where the quality expert was not trained (gamma < -12.43)"
    );
    // Four digits would show the limit equal to what was given.
    assert_eq!(
        message(Given::Eta(0.0394)),
        "eta = 0.0394 lies below 0.03943, where the quality expert was not trained (gamma < -12.43)"
    );
}

#[test]
fn all_kinds_of_threshold_mean_the_same_legs() {
    let (merged, switch) = paper_at(Given::Gamma(-4.0)).unwrap();
    for given in [
        Given::EdmSigma((-2.0_f64).exp()),
        Given::LogSnr(4.0),
        Given::Eta(switch.eta),
    ] {
        let (other, _) = paper_at(given).unwrap();
        assert!(
            (other.legs(Toward::Noise)[0].end - merged.legs(Toward::Noise)[0].end).abs() < 1e-14
        );
    }
}

#[test]
fn the_papers_printed_ends_snap() {
    let (_, switch) = paper_at(Given::Eta(0.039_430_7)).unwrap();
    assert_eq!(switch.gamma, Some(-12.43));
    assert!(
        switch
            .snapped_from
            .is_some_and(|gamma| (gamma + 12.430_001).abs() < 1e-7)
    );
    assert_eq!(paper_at(Given::Eta(0.829_405)).unwrap().1.gamma, Some(5.0));
    assert_eq!(paper_at(Given::EtaMin).unwrap().1.gamma, Some(-12.43));
    assert_eq!(paper_at(Given::EtaMax).unwrap().1.gamma, Some(5.0));
    assert_eq!(paper_at(Given::EtaMax).unwrap().1.snapped_from, None);
}

#[test]
fn the_grid_has_the_papers_ten_and_the_digits_nine() {
    let grid = paper().eta_grid().unwrap();
    let papers = [
        0.039_430_7,
        0.1,
        0.2,
        0.3,
        0.4,
        0.5,
        0.6,
        0.7,
        0.8,
        0.829_405,
    ];
    assert_eq!(grid.len(), papers.len());
    assert!(
        grid.iter()
            .zip(papers)
            .all(|(eta, printed)| (eta - printed).abs() < 5e-7)
    );
    let range = |min, max| GammaRange::new(min, max).unwrap();
    let digits = Pair::new(range(-7.876, 5.0), range(-7.006, 8.764), None).unwrap();
    let grid = digits.eta_grid().unwrap();
    assert_eq!(grid.len(), 9);
    assert!((grid[0] - 0.0523).abs() < 5e-5 && (grid[8] - 0.7738).abs() < 5e-5);
}

#[test]
fn the_eta_range_only_translates_eta() {
    let learned = GammaRange::new(-13.31, 5.0).unwrap();
    let pair = Pair::new(learned, GammaRange::EDM, Some(GammaRange::MERGED)).unwrap();
    let threshold = Threshold::new(Given::Eta(0.4)).unwrap();
    let (merged, switch) = pair.merge(threshold, Alone::Native, false).unwrap();
    assert_eq!(ends(&merged), (-13.31, 8.764));
    assert_eq!(switch.gamma, Some(GammaRange::MERGED.gamma(0.4)));
}

#[test]
fn experts_without_common_gamma_have_no_threshold() {
    let range = |min, max| GammaRange::new(min, max).unwrap();
    let pair = Pair::new(range(-10.0, -5.0), range(0.0, 8.0), None).unwrap();
    assert!(matches!(pair.limits(), Err(Error::NoOverlap { .. })));
    let reversed = Pair::new(range(5.0, 8.0), range(-5.0, 2.0), None);
    assert!(matches!(reversed, Err(Error::GammaRange { .. })));
}

#[test]
fn a_threshold_outside_the_merged_range_is_refused_even_when_extrapolating() {
    let threshold = Threshold::new(Given::Gamma(-20.0)).unwrap();
    let refused = paper().merge(threshold, Alone::Native, true);
    assert!(matches!(refused, Err(Error::OutsideMerged { .. })));
    let threshold = Threshold::new(Given::Eta(0.02)).unwrap();
    let (merged, _) = paper().merge(threshold, Alone::Native, true).unwrap();
    let marks: Vec<_> = merged
        .legs(Toward::Noise)
        .iter()
        .map(|leg| leg.extrapolated)
        .collect();
    assert_eq!(marks, [false, true]);
}
