//! A scalar per token on a GPU: scores and values, and their way back. The head is f32.
//! Legend: M tokens that are read, C channels.

use std::sync::Arc;

use super::network::Network;
use super::pass::{Pass, prepare};
use crate::data::ragged::TokenBatch;
use crate::device::{Arg, Buffer, Gpu, Launch, Program, Real, ViewMut};
use crate::error::Result;
use crate::model::{CausalLm, ParameterSet, Read};
use crate::ops::cuda::{THREADS, WARPS};

/// A batch that has gone through a scored model, with its way back.
pub(in crate::model) struct DeviceScorePass {
    pass: Pass,
    gpu: Arc<Gpu>,
}

/// w·h + b at the tokens that are read, (M,); `head` is weight and bias, (C + 1,).
///
/// # Errors
/// A row that does not fit the model, by name; no memory.
pub(in crate::model) fn scores(
    backbone: &CausalLm,
    head: &ParameterSet,
    gpu: &Arc<Gpu>,
    (batch, read): (&TokenBatch, Read),
    keep: bool,
) -> Result<(Vec<f32>, DeviceScorePass)> {
    let prepared = prepare(backbone, gpu, batch, read)?;
    let pass = Pass::forward(&prepared, keep)?;
    let c = backbone.config().hidden_size;
    let m = pass.hidden().len() / c;
    let head = head.values_on(gpu)?;
    assert_eq!(head.len(), c + 1);
    let mut scores = Buffer::<f32>::new(gpu, m)?;
    let args = [
        pass.hidden().into(),
        head.view().into(),
        (&mut scores.view_mut()).into(),
        m.into(),
        c.into(),
    ];
    let launch = Launch::new(m.div_ceil(WARPS), THREADS);
    gpu.launch(Program::Common, "scalar_head_forward", launch, &args)?;
    let scores = scores.download()?;
    let gpu = gpu.clone();
    Ok((scores, DeviceScorePass { pass, gpu }))
}

impl DeviceScorePass {
    /// Adds the gradients of what is trained of the backbone and of the head, given those by the scores, (M,).
    ///
    /// # Errors
    /// No memory; a launch that fails.
    pub(in crate::model) fn backward(
        self,
        backbone: &CausalLm,
        head: &ParameterSet,
        d_scores: &[f32],
        gradients: ViewMut<'_, f32>,
        mut head_gradients: ViewMut<'_, f32>,
    ) -> Result<()> {
        let gpu = &self.gpu;
        let c = backbone.config().hidden_size;
        let m = d_scores.len();
        assert_eq!(
            (self.pass.hidden().len(), head_gradients.len()),
            (m * c, c + 1)
        );
        let network = Network::new(backbone, gpu, self.pass.longest())?;
        let head = head.values_on(gpu)?;
        let d_scores = Buffer::upload(gpu, d_scores)?;
        let mut d_hidden = Buffer::<Real>::new(gpu, m * c)?;
        let args = [
            head.view().into(),
            d_scores.view().into(),
            (&mut d_hidden.view_mut()).into(),
            m.into(),
            c.into(),
        ];
        let launch = Launch::new(m.div_ceil(WARPS), THREADS);
        gpu.launch(
            Program::Common,
            "scalar_head_backward_hidden",
            launch,
            &args,
        )?;
        let args: [Arg; 5] = [
            self.pass.hidden().into(),
            d_scores.view().into(),
            (&mut head_gradients).into(),
            m.into(),
            c.into(),
        ];
        let launch = Launch::new((c + 1).div_ceil(32), 1024);
        gpu.launch(Program::Common, "scalar_head_backward_head", launch, &args)?;
        self.pass.backward(&network, d_hidden.view(), gradients)
    }
}
