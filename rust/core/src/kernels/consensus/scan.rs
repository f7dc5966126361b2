//! Many hypotheses in one call: proposed, scored, and those above a bar handed out.
//!
//! `#[inline(always)]` so that each level's file compiles its own copy.

#![allow(clippy::inline_always, reason = "each level must compile its own copy of these loops")]

use std::ops::Range;

use super::{LANES, Lanes, Maps, Points, Source, scalar};

/// What hypotheses are scored by.
#[derive(Debug, Clone, Copy)]
pub struct Scoring {
    /// Correspondences that count, at most.
    pub most: usize,
    /// Square of the radius.
    pub squared_radius: f32,
}

/// Receives a score, maps, and the lane of the one it is of; returns the score the next must exceed.
pub type Offer<'a> = dyn FnMut(f32, &Maps, usize) -> f32 + 'a;

/// Maps that wait until they are sixteen.
pub type Waiting = [[f32; 2 * LANES]; 6];

/// What a level does better than the compiler.
pub trait Pack {
    /// The lanes whose value is above the bar, as bits.
    fn above(values: &Lanes, bar: f32) -> u32;

    /// Appends the maps that are numbers, of the lanes given as bits, after the first `count` of `waiting`, at most
    /// 16; the number waiting then.
    fn append(waiting: &mut Waiting, count: usize, maps: &Maps, lanes: u32) -> usize;
}

/// [`Pack`] lane by lane.
pub struct LaneByLane;

impl Pack for LaneByLane {
    #[inline(always)]
    fn above(values: &Lanes, bar: f32) -> u32 {
        values.iter().enumerate().fold(0, |bits, (l, &value)| bits | u32::from(value > bar) << l)
    }

    #[inline(always)]
    fn append(waiting: &mut Waiting, mut count: usize, maps: &Maps, lanes: u32) -> usize {
        for l in (0..LANES).filter(|&l| lanes >> l & 1 == 1 && !maps[0][l].is_nan()) {
            for (row, map) in waiting.iter_mut().zip(maps) {
                row[count] = map[l];
            }
            count += 1;
        }
        count
    }
}

/// See [`super::Consensus::scan`].
#[inline(always)]
pub fn scan<P: Pack>(
    points: &Points,
    source: &Source<'_>,
    batches: Range<usize>,
    scoring: &Scoring,
    bar: f32,
    offer: &mut Offer<'_>,
) {
    match *source {
        Source::Keypoints => {
            direct::<P>(points, batches, scoring, bar, offer, |start, _| scalar::keypoints(points, start));
        }
        Source::Pairs { area } => direct::<P>(points, batches, scoring, bar, offer, |start, round| {
            scalar::pairs(points, start, round + 1, area)
        }),
        Source::Triples { samples, area, spread } => {
            believed::<P>(points, batches, scoring, bar, offer, |start, round| {
                scalar::triples(points, start, samples[round].map(|offset| offset as usize), area, spread)
            });
        }
    }
}

/// Scores every batch as it is proposed.
#[inline(always)]
fn direct<P: Pack>(
    points: &Points,
    batches: Range<usize>,
    scoring: &Scoring,
    mut bar: f32,
    offer: &mut Offer<'_>,
    propose: impl Fn(usize, usize) -> Maps,
) {
    let per_round = points.batches();
    let (mut round, mut part) = (batches.start / per_round, batches.start % per_round);
    for _ in batches {
        let start = part * LANES;
        let maps = propose(start, round);
        let gains = score(points, &maps, scoring);
        bar = hand_out::<P>(&gains, &maps, LANES.min(points.len - start), bar, offer);
        part += 1;
        if part == per_round {
            (round, part) = (round + 1, 0);
        }
    }
}

/// Scores only maps that are numbers, in full batches: most of what is proposed is not believed.
#[inline(always)]
fn believed<P: Pack>(
    points: &Points,
    batches: Range<usize>,
    scoring: &Scoring,
    mut bar: f32,
    offer: &mut Offer<'_>,
    propose: impl Fn(usize, usize) -> Maps,
) {
    let per_round = points.batches();
    let (mut round, mut part) = (batches.start / per_round, batches.start % per_round);
    let (mut waiting, mut count) = ([[f32::NAN; 2 * LANES]; 6], 0);
    for _ in batches {
        let start = part * LANES;
        let maps = propose(start, round);
        count = P::append(&mut waiting, count, &maps, mask(LANES.min(points.len - start)));
        if count >= LANES {
            let full = first(&waiting);
            let gains = score(points, &full, scoring);
            bar = hand_out::<P>(&gains, &full, LANES, bar, offer);
            for row in &mut waiting {
                row.copy_within(LANES.., 0);
            }
            count -= LANES;
        }
        part += 1;
        if part == per_round {
            (round, part) = (round + 1, 0);
        }
    }
    if count > 0 {
        let rest = first(&waiting);
        let gains = score(points, &rest, scoring);
        hand_out::<P>(&gains, &rest, count, bar, offer);
    }
}

/// The gains of sixteen maps.
#[inline(always)]
fn score(points: &Points, maps: &Maps, scoring: &Scoring) -> Lanes {
    scalar::gains(points, scoring.most, maps, scoring.squared_radius)
}

#[inline(always)]
fn first(waiting: &Waiting) -> Maps {
    std::array::from_fn(|i| *waiting[i].first_chunk().expect("twice as many"))
}

/// The lowest `count` bits.
#[inline(always)]
fn mask(count: usize) -> u32 {
    (1 << count) - 1
}

/// Offers the first `count` maps whose gain is above the bar, in order; the bar afterwards.
#[inline(always)]
fn hand_out<P: Pack>(gains: &Lanes, maps: &Maps, count: usize, mut bar: f32, offer: &mut Offer<'_>) -> f32 {
    let mut above = P::above(gains, bar) & mask(count);
    while above != 0 {
        let lane = above.trailing_zeros() as usize % LANES;
        above &= above - 1;
        if gains[lane] > bar {
            bar = offer(gains[lane], maps, lane);
        }
    }
    bar
}
