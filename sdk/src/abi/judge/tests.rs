use super::*;

/// What reached the host.
#[derive(Default)]
struct Host(Vec<(usize, Verdict, String, Option<Origin>)>);

impl JudgeSink for Host {
    fn push(&mut self, row: usize, verdict: Verdict, reason: &str) -> Result<()> {
        self.0.push((row, verdict, reason.to_owned(), None));
        Ok(())
    }

    fn push_with_origin(
        &mut self,
        row: usize,
        verdict: Verdict,
        reason: &str,
        origin: &Origin,
    ) -> Result<()> {
        let origin = Some(origin.clone());
        self.0.push((row, verdict, reason.to_owned(), origin));
        Ok(())
    }
}

/// A host of the first version: it knows `push` alone.
#[derive(Default)]
struct OldHost(Vec<(u64, u32, f32, String)>);

impl JudgeSinkAbi for OldHost {
    fn push(
        &mut self,
        row: u64,
        verdict: VerdictAbi,
        preference: f32,
        failure: RStr<'_>,
        reason: RStr<'_>,
    ) -> RResult<(), ErrorAbi> {
        let text = format!("{failure}{reason}");
        self.0.push((row, verdict.0, preference, text));
        abi_stable::std_types::ROk(())
    }
}

fn verdicts() -> [Verdict; 3] {
    [
        Verdict::Preference(0.25),
        Verdict::Tie,
        Verdict::Failed("503".into()),
    ]
}

fn push_all(sink: &mut impl JudgeSinkAbi, origin: &Origin) {
    let mut sink = RemoteSink(JudgeSinkAbi_TO::from_ptr(RMut::new(sink), TD_Opaque));
    for (row, verdict) in verdicts().into_iter().enumerate() {
        sink.push(row, verdict.clone(), "why").unwrap();
        sink.push_with_origin(row, verdict, "why", origin).unwrap();
    }
}

#[test]
fn verdicts_cross_with_and_without_their_origin() {
    let origin = Origin {
        model: "m".into(),
        requests: vec!["r".into()],
        ..Origin::default()
    };
    let mut host = Host::default();
    push_all(&mut LocalSink(&mut host), &origin);
    let expected = verdicts()
        .into_iter()
        .enumerate()
        .flat_map(|(row, verdict)| {
            [None, Some(origin.clone())]
                .map(|origin| (row, verdict.clone(), "why".to_owned(), origin))
        });
    assert_eq!(host.0, expected.collect::<Vec<_>>());
}

#[test]
fn an_older_host_gets_the_verdict_alone() {
    let mut host = OldHost::default();
    push_all(&mut host, &Origin::default());
    let texts: Vec<&str> = host.0.iter().map(|(.., text)| text.as_str()).collect();
    assert_eq!(texts, ["why", "why", "why", "why", "503why", "503why"]);
    assert_eq!(host.0[1], (0, 0, 0.25, "why".to_owned()));
}
