//! Places the labels of a picture: beside their marks, on nothing else, and crossed by no line.

/// A box in pixels: left, top, right, bottom.
pub type Frame = [i32; 4];

type Pixel = (i32, i32);

/// A label to place.
pub struct Label {
    pub mark: Pixel,
    /// Radius of the mark.
    pub radius: i32,
    /// Width of the text.
    pub width: i32,
}

/// The place of a label.
pub struct LabelBox {
    /// The box of the text, with a margin of [`MARGIN`] at its sides.
    pub frame: Frame,
    /// A line from the mark, if the label is not beside it.
    pub leader: Option<(Pixel, Pixel)>,
}

pub const MARGIN: i32 = 2;

/// Places each label at the nearest free place around its mark: within `inside`, on none of `taken`, on no text (`written` holds earlier
/// ones), on no leader, and with a leader that crosses no text. A mark surrounded by texts gets a leader that is drawn below them; if no
/// place is free at all, the label lies beside its mark.
pub fn place(labels: &[Label], height: i32, inside: Frame, taken: &[Frame], mut written: Vec<Frame>) -> Vec<LabelBox> {
    let (mut placed, mut leaders): (Vec<LabelBox>, Vec<Frame>) = (vec![], vec![]);
    for label in labels {
        let places = || (0..RINGS).flat_map(|ring| around(label, ring * STEP)).map(|at| beside(label, at, height));
        let free = |place: &LabelBox| {
            let f = place.frame;
            let fits = f[0] >= inside[0] && f[1] >= inside[1] && f[2] <= inside[2] && f[3] <= inside[3];
            fits && !taken.iter().chain(&written).chain(&leaders).any(|other| overlaps(&f, other))
        };
        let crosses = |(from, to)| along(from, to).iter().any(|part| written.iter().any(|text| overlaps(part, text)));
        let found = places().find(|place| free(place) && !place.leader.is_some_and(crosses)).or_else(|| places().find(free));
        let place = found.unwrap_or_else(|| beside(label, (label.mark.0 + label.radius + GAP, label.mark.1), height));
        written.push(place.frame);
        leaders.extend(place.leader.into_iter().flat_map(|(from, to)| along(from, to)));
        placed.push(place);
    }
    placed
}

/// Number of rings around a mark that are tried, and how much wider than the last each one is.
const RINGS: i32 = 80;
const STEP: i32 = 6;
/// Distance between a mark and its label.
const GAP: i32 = 5;

/// Left ends of a text's middle line at this distance from a mark.
fn around(label: &Label, far: i32) -> impl Iterator<Item = Pixel> {
    let (mark, width, away) = (label.mark, label.width, f64::from(label.radius + GAP + far));
    (0..24).map(move |turn| {
        let angle = f64::from(turn) * std::f64::consts::TAU / 24.0;
        let (dx, dy) = (away * angle.cos(), away * angle.sin());
        // A label on the left ends at this point, a label on the right begins there.
        let left = match dx {
            _ if dx < -1.0 => width,
            _ if dx > 1.0 => 0,
            _ => width / 2,
        };
        (mark.0 + dx as i32 - left, mark.1 + dy as i32)
    })
}

/// The place of a label whose middle line begins at this pixel.
fn beside(label: &Label, (x, y): Pixel, height: i32) -> LabelBox {
    let (mark, half) = (label.mark, height / 2 + 2);
    let frame = [x - MARGIN, y - half, x + label.width + MARGIN, y + half];
    let nearest = (mark.0.clamp(frame[0], frame[2]), mark.1.clamp(frame[1], frame[3]));
    let far = (nearest.0 - mark.0).abs().max((nearest.1 - mark.1).abs()) > label.radius + GAP + 8;
    LabelBox { frame, leader: far.then_some((mark, nearest)) }
}

/// Small boxes along a line, which no label may cover.
pub fn along(from: Pixel, to: Pixel) -> Vec<Frame> {
    let steps = ((to.0 - from.0).abs().max((to.1 - from.1).abs()) / 6).max(1);
    let at = |i: i32| (from.0 + (to.0 - from.0) * i / steps, from.1 + (to.1 - from.1) * i / steps);
    (0..=steps).map(at).map(|(x, y)| [x - 3, y - 3, x + 3, y + 3]).collect()
}

fn overlaps(a: &Frame, b: &Frame) -> bool {
    a[0] < b[2] && b[0] < a[2] && a[1] < b[3] && b[1] < a[3]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a line enters a box, pixel by pixel.
    fn enters((from, to): (Pixel, Pixel), frame: &Frame) -> bool {
        let steps = (to.0 - from.0).abs().max((to.1 - from.1).abs()).max(1);
        (0..=steps).any(|i| {
            let (x, y) = (from.0 + (to.0 - from.0) * i / steps, from.1 + (to.1 - from.1) * i / steps);
            frame[0] < x && x < frame[2] && frame[1] < y && y < frame[3]
        })
    }

    /// Nearly identical kernels in one spot beside the roof. Returns how many lines cross a text.
    fn crowd(count: i32) -> usize {
        let label = |i: i32| Label { mark: (500 + i % 7, 300 + i % 5), radius: 4 + i % 3, width: 120 + 5 * (i % 9) };
        let labels: Vec<Label> = (0..count).map(label).collect();
        let roof = ((100, 500), (520, 280));
        let inside = [80, 70, 1090, 660];
        let mut taken = along(roof.0, roof.1);
        taken.extend(labels.iter().map(|l| [l.mark.0 - l.radius, l.mark.1 - l.radius, l.mark.0 + l.radius, l.mark.1 + l.radius]));
        let written = [540, 240, 760, 260];
        let placed = place(&labels, 12, inside, &taken, vec![written]);
        let mut crossed = 0;
        for (i, a) in placed.iter().enumerate() {
            let f = a.frame;
            assert!(f[0] >= inside[0] && f[1] >= inside[1] && f[2] <= inside[2] && f[3] <= inside[3], "{f:?}");
            assert!(!enters(roof, &f) && !overlaps(&f, &written), "{f:?} lies on the roof");
            crossed += usize::from(a.leader.is_some_and(|line| enters(line, &written)));
            for (_, b) in placed.iter().enumerate().filter(|(j, _)| *j != i) {
                assert!(!overlaps(&f, &b.frame), "{f:?} lies on {:?}", b.frame);
                crossed += usize::from(b.leader.is_some_and(|line| enters(line, &f)));
            }
        }
        crossed
    }

    #[test]
    fn no_label_lies_on_another_or_is_crossed_by_a_line() {
        assert_eq!([1, 5, 10].map(crowd), [0, 0, 0]);
        crowd(40);
    }
}
