use super::*;

/// What reached the host.
#[derive(Default)]
struct Host(Vec<(usize, EditOutcome, Option<Origin>)>);

impl EditSink for Host {
    fn push(&mut self, row: usize, outcome: EditOutcome) -> Result<()> {
        self.0.push((row, outcome, None));
        Ok(())
    }

    fn push_with_origin(
        &mut self,
        row: usize,
        outcome: EditOutcome,
        origin: &Origin,
    ) -> Result<()> {
        self.0.push((row, outcome, Some(origin.clone())));
        Ok(())
    }
}

/// A host of the first version: it knows `push` and its codes alone.
#[derive(Default)]
struct OldHost(Vec<(u64, u32, String)>);

impl EditSinkAbi for OldHost {
    fn push(&mut self, row: u64, outcome: OutcomeAbi, text: RStr<'_>) -> RResult<(), ErrorAbi> {
        self.0.push((row, outcome.0, text.to_string()));
        abi_stable::std_types::ROk(())
    }
}

fn outcomes() -> [EditOutcome; 5] {
    [
        EditOutcome::Edited("new".into()),
        EditOutcome::Unchanged,
        EditOutcome::Refused("no".into()),
        EditOutcome::Failed("503".into()),
        EditOutcome::Rejected("rewritten".into()),
    ]
}

fn origin() -> Origin {
    Origin {
        model: "m".into(),
        picodollars: Some(7),
        tries: 1,
        ..Origin::default()
    }
}

/// Pushes every outcome, first without an origin and then with one.
fn push_all(sink: &mut impl EditSinkAbi) {
    let mut sink = RemoteSink(EditSinkAbi_TO::from_ptr(RMut::new(sink), TD_Opaque));
    for (row, outcome) in outcomes().into_iter().enumerate() {
        sink.push(row, outcome).unwrap();
    }
    for (row, outcome) in outcomes().into_iter().enumerate() {
        sink.push_with_origin(row, outcome, &origin()).unwrap();
    }
}

#[test]
fn outcomes_cross_with_and_without_their_origin() {
    let mut host = Host::default();
    push_all(&mut LocalSink(&mut host));
    let expected = [None, Some(origin())].into_iter().flat_map(|origin| {
        let rows = outcomes().into_iter().enumerate();
        rows.map(move |(row, outcome)| (row, outcome, origin.clone()))
    });
    assert_eq!(host.0, expected.collect::<Vec<_>>());
}

#[test]
fn an_older_host_gets_the_outcome_alone_and_a_rejection_as_a_refusal() {
    let mut host = OldHost::default();
    push_all(&mut host);
    let rows: Vec<(u64, u32, String)> =
        [(0, "new"), (1, ""), (2, "no"), (3, "503"), (2, "rewritten")]
            .into_iter()
            .zip(0..)
            .map(|((code, text), row)| (row, code, text.to_owned()))
            .collect();
    assert_eq!(host.0, [rows.clone(), rows].concat());
}

#[test]
fn a_code_or_an_origin_that_nobody_knows_is_refused() {
    let mut host = Host::default();
    let mut sink = LocalSink(&mut host);
    let unknown = sink.push_with_origin(0, OutcomeAbi(9), "".into(), "".into());
    let error = received(unknown).unwrap_err();
    assert!(error.message.contains("unknown code 9"), "{error}");
    let unread = sink.push_with_origin(0, OutcomeAbi::UNCHANGED, "".into(), "{".into());
    let error = received(unread).unwrap_err();
    assert_eq!(error.code, ErrorCode::INVALID_OUTPUT);
    assert!(error.message.contains("origin"), "{error}");
    assert!(host.0.is_empty());
}
