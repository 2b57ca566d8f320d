//! A server made ready from a plugin's options: its address, its API, its key's place and its prices.

use std::time::Duration;

use finegrain_sdk::{Error, Result};

use crate::api::{Address, Api};
use crate::key::KeySource;
use crate::options::{AnthropicOptions, OpenAiOptions, ServerOptions};
use crate::prices::Prices;
use crate::usd::Usd;

/// A model on a server, and how it is asked. Nothing is sent and no key is read when it is made.
#[derive(Clone, Debug)]
pub struct Server {
    /// The plugin's name, for records.
    pub(crate) plugin: String,
    /// How questions and answers look.
    pub(crate) api: Api,
    /// Where the server is.
    pub(crate) address: Address,
    /// Where the key is.
    pub(crate) key: KeySource,
    /// What tokens cost.
    pub(crate) prices: Prices,
    /// What both APIs share.
    pub(crate) options: ServerOptions,
    /// Whether questions go in batches.
    pub(crate) batch: bool,
    /// The longest wait between two looks at a batch.
    pub(crate) poll: Duration,
}

impl Server {
    /// A model behind Anthropic's Messages API; `plugin` is the asking plugin's name, for records.
    ///
    /// # Errors
    /// No model, an address that is none, a file of prices that cannot be read, or a budget without a price.
    pub fn anthropic(
        plugin: &str,
        options: &ServerOptions,
        own: &AnthropicOptions,
    ) -> Result<Self> {
        Ok(Self {
            batch: own.batch,
            poll: Duration::from_secs(own.batch_poll_seconds.into()),
            ..Self::new(plugin, Api::anthropic(own), options)?
        })
    }

    /// A model behind OpenAI's chat completions; `plugin` is the asking plugin's name, for records.
    ///
    /// # Errors
    /// As [`Server::anthropic`].
    pub fn openai(plugin: &str, options: &ServerOptions, own: &OpenAiOptions) -> Result<Self> {
        let address = address(Api::OPENAI_ADDRESS, options)?;
        Self::new(plugin, Api::openai(own, &address), options)
    }

    fn new(plugin: &str, api: Api, options: &ServerOptions) -> Result<Self> {
        if options.model.trim().is_empty() {
            return Err(Error::options(
                "`model` is empty; it must name a model that the server has",
            ));
        }
        let address = address(api.own_address(), options)?;
        let key = KeySource::new(
            &options.api_key_env,
            api.own_key(),
            address.as_str() == api.own_address(),
        );
        let prices = Prices::load(options.prices.as_deref())?;
        let server = Self {
            plugin: plugin.to_owned(),
            api,
            address,
            key,
            prices,
            options: options.clone(),
            batch: false,
            poll: Duration::ZERO,
        };
        if let Some(cap) = options.budget_usd
            && server.price_today().is_none()
        {
            return Err(Error::options(format!(
                "budget_usd = {cap} needs a price, and there is none for the model {:?}; name a TOML file with one in \
                 `prices` (input = 0 and output = 0 for a server of your own)",
                options.model
            )));
        }
        Ok(server)
    }

    /// Whether the key is there, for a check before a long run. [`crate::ask`] reads it only once it has to send.
    ///
    /// # Errors
    /// The variable that should hold it is not set, or holds no key.
    pub fn check_key(&self) -> Result<()> {
        self.key.read().map(drop)
    }

    /// The model's name, as asked for.
    pub fn model(&self) -> &str {
        &self.options.model
    }

    /// The most that all answers of a call may cost.
    pub(crate) fn budget(&self) -> Option<Usd> {
        self.options.budget_usd.map(Usd::from_dollars)
    }

    /// How long an answer may take.
    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_secs(self.options.timeout_seconds.into())
    }

    /// What the model's tokens cost now.
    pub(crate) fn price_today(&self) -> Option<&crate::prices::Price> {
        let today = jiff::Timestamp::now().to_string();
        self.prices.of(&self.options.model, &today)
    }
}

/// The address that the options name, or the API's own.
fn address(own: &str, options: &ServerOptions) -> Result<Address> {
    match options.base_url.trim() {
        "" => Address::parse(own),
        given => Address::parse(given),
    }
}
