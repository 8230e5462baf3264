//! systemd over D-Bus: units, jobs, live properties.
//!
//! Owns what is asked of `org.freedesktop.systemd1` and what its answers mean. Decides nothing: which unit is
//! started or stopped is the plan's. Job results come from `JobRemoved` signals, never from polling; the
//! signals reach `Jobs` through `changes`, on the same connection that the calls are made on.

mod cache;
mod jobs;
mod limits;
mod settings;
mod unit;

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use nixmox_core::model::{ContainerName, SystemState};
use zbus::{Connection, Variant};
use zbus_systemd::systemd1::ManagerProxy;

use super::StepError;
use super::bus::{Bus, failed, is_error};

pub(super) use cache::UnitCache;
pub(super) use jobs::{JobEnd, JobSignal, Jobs};
pub(super) use limits::{Context, Properties, all_cpus, device_rules, limit_changes, unthrottled};
pub(super) use settings::Settings;
pub(super) use unit::{ListedUnit, UnitProperties};

/// systemd's name on the bus.
pub(super) const DESTINATION: &str = "org.freedesktop.systemd1";
/// The manager's object.
pub(super) const PATH: &str = "/org/freedesktop/systemd1";
/// The manager's interface.
pub(super) const MANAGER: &str = "org.freedesktop.systemd1.Manager";
/// The folder of units' objects.
pub(super) const UNITS: &str = "/org/freedesktop/systemd1/unit";
/// The error for a unit that is not loaded.
const NO_SUCH_UNIT: &str = "org.freedesktop.systemd1.NoSuchUnit";
/// Calls on one connection at a time; dbus-daemon(1) has a limit on replies that are still to come.
const CALLS_AT_ONCE: usize = 64;
/// What is added to the time that a unit's own limits allow for a job.
const JOB_MARGIN: Duration = Duration::from_secs(30);
/// The longest wait for a job whose unit sets no limit at all.
const JOB_LIMIT_MAX: Duration = Duration::from_hours(24);

/// What is done with a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    Start,
    Stop,
}

/// systemd, as far as containers need it.
#[derive(Debug)]
pub(super) struct Systemd {
    bus: Bus,
    jobs: Arc<Jobs>,
    cache: Arc<UnitCache>,
    reloads_asked: AtomicU64,
    reloads_done: tokio::sync::Mutex<u64>,
}

impl Systemd {
    pub(super) fn new(bus: Bus, jobs: Arc<Jobs>, cache: Arc<UnitCache>) -> Self {
        Self { bus, jobs, cache, reloads_asked: AtomicU64::new(0), reloads_done: tokio::sync::Mutex::new(0) }
    }

    /// Asks for everything anew at the next look.
    pub(super) fn distrust(&self) {
        self.cache.all_changed();
    }

    /// Returns what systemd as a whole is doing.
    pub(super) async fn system_state(&self) -> Result<SystemState, StepError> {
        let connection = self.bus.connection().await?;
        let state =
            manager(&connection).await?.system_state().await.map_err(|e| failed("Get", "SystemState", e))?;
        Ok(if state == "stopping" { SystemState::Stopping } else { SystemState::Up })
    }

    /// Returns the task limit of units that set none.
    pub(super) async fn default_tasks_max(&self) -> Result<u64, StepError> {
        let connection = self.bus.connection().await?;
        let manager = manager(&connection).await?;
        manager.default_tasks_max().await.map_err(|e| failed("Get", "DefaultTasksMax", e))
    }

    /// Returns every loaded instance of `container@.service`, each with its properties.
    ///
    /// Calls are pipelined on one connection. A unit that is unloaded in between is left out.
    pub(super) async fn units(&self) -> Result<Vec<(ListedUnit, UnitProperties)>, StepError> {
        let connection = self.bus.connection().await?;
        let listed = manager(&connection)
            .await?
            .list_units_by_patterns(Vec::new(), vec!["container@*.service".to_owned()])
            .await
            .map_err(|e| failed("ListUnitsByPatterns", "container@*.service", e))?;
        let listed: Vec<_> = listed.into_iter().filter_map(unit::from_row).collect();
        self.cache.retain(&listed.iter().map(|row| row.name.unit()).collect());
        let read = listed.into_iter().map(|row| {
            let connection = &connection;
            async move {
                // A change of state whose signal is still on its way shows in the list.
                let known = self.cache.get(&row.name.unit()).filter(|known| row.agrees_with(known));
                let properties = match known {
                    Some(known) => known,
                    None => match self.read_properties(connection, &row).await? {
                        Some(read) => read,
                        None => return Ok(None),
                    },
                };
                // All of one moment: the list is older than the properties.
                let (active, job) = (properties.active_state(), properties.job_id());
                Ok(Some((ListedUnit { name: row.name, active, job }, properties)))
            }
        });
        stream::iter(read).buffer_unordered(CALLS_AT_ONCE).try_filter_map(|x| async { Ok(x) }).try_collect().await
    }

    /// Reads a unit's properties; `None` when it was unloaded in between.
    async fn read_properties(
        &self,
        connection: &Connection,
        row: &unit::Listed,
    ) -> Result<Option<UnitProperties>, StepError> {
        let began = self.cache.moment();
        match unit::properties(connection, &row.path).await {
            Ok(properties) => {
                self.cache.keep(&row.name.unit(), began, &properties);
                Ok(Some(properties))
            }
            Err(error) if is_error(&error, "org.freedesktop.DBus.Error.UnknownObject") => Ok(None),
            Err(error) => Err(failed("GetAll", row.name.unit(), error)),
        }
    }

    /// Returns the properties of a container's unit; loads it when it is not loaded.
    pub(super) async fn properties(&self, name: &ContainerName) -> Result<UnitProperties, StepError> {
        self.load(&name.unit()).await
    }

    /// Returns the properties of a slice as they were last read, where they cannot have changed since; loads it when it is not
    /// loaded, so that they are those of its files.
    pub(super) async fn slice(&self, unit: &str) -> Result<UnitProperties, StepError> {
        if let Some(known) = self.cache.get(unit) {
            return Ok(known);
        }
        let began = self.cache.moment();
        let properties = self.load(unit).await?;
        self.cache.keep(unit, began, &properties);
        Ok(properties)
    }

    /// Asks for a slice anew at the next look.
    pub(super) fn forget(&self, unit: &str) {
        self.cache.unit_changed(unit);
    }

    async fn load(&self, unit: &str) -> Result<UnitProperties, StepError> {
        let connection = self.bus.connection().await?;
        let path = manager(&connection).await?.load_unit(unit.to_owned()).await;
        let path = path.map_err(|e| failed("LoadUnit", unit, e))?;
        unit::properties(&connection, &path).await.map_err(|e| failed("GetAll", unit, e))
    }

    /// Returns the properties of a container's unit; `None` when it is not loaded.
    pub(super) async fn loaded_properties(
        &self,
        name: &ContainerName,
    ) -> Result<Option<UnitProperties>, StepError> {
        self.properties_if_loaded(&name.unit()).await
    }

    /// Returns the properties of a unit by its name; `None` when it is not loaded.
    pub(super) async fn properties_if_loaded(&self, unit: &str) -> Result<Option<UnitProperties>, StepError> {
        let connection = self.bus.connection().await?;
        let path = match manager(&connection).await?.get_unit(unit.to_owned()).await {
            Ok(path) => path,
            Err(error) if is_error(&error, NO_SUCH_UNIT) => return Ok(None),
            Err(error) => return Err(failed("GetUnit", unit, error)),
        };
        unit::properties(&connection, &path).await.map(Some).map_err(|e| failed("GetAll", unit, e))
    }

    /// Returns whether a container's unit is active.
    pub(super) async fn is_active(&self, name: &ContainerName) -> Result<bool, StepError> {
        let connection = self.bus.connection().await?;
        let unit = name.unit();
        let path = format!("{UNITS}/{}", zbus_systemd::bus_label_escape(&unit));
        let body = ("org.freedesktop.systemd1.Unit", "ActiveState");
        let reply =
            connection.call_method(Some(DESTINATION), path, Some("org.freedesktop.DBus.Properties"), "Get", &body);
        let reply = reply.await.map_err(|e| failed("Get", &unit, e))?;
        let body = reply.body();
        let state: Variant<'_> = body.deserialize().map_err(|e| failed("Get", &unit, e))?;
        Ok(matches!(state, Variant::Str(text) if text == "active"))
    }

    /// Forgets that a unit failed, so that no start limit holds it back. A unit that is not loaded is fine.
    pub(super) async fn reset_failed(&self, name: &ContainerName) -> Result<(), StepError> {
        let connection = self.bus.connection().await?;
        match manager(&connection).await?.reset_failed_unit(name.unit()).await {
            Err(error) if !is_error(&error, NO_SUCH_UNIT) => Err(failed("ResetFailedUnit", name.unit(), error)),
            _ => Ok(()),
        }
    }

    /// Starts a unit and waits for its job. Joins a start job that is queued; refuses to cancel a stop job.
    ///
    /// # Errors
    /// `NotReady`, `StartFailed` with the service's result, `JobTimedOut`, or `Bus`.
    pub(super) async fn start(&self, name: &ContainerName) -> Result<(), StepError> {
        let result = self.job(&name.unit(), Verb::Start).await?;
        if result == JobEnd::Done {
            return Ok(());
        }
        let properties = self.loaded_properties(name).await?.unwrap_or_default();
        if matches!(result, JobEnd::Unseen) && properties.is_active() {
            return Ok(());
        }
        Err(match properties.start_timed_out() {
            Some(limit) => StepError::NotReady { unit: name.unit(), limit },
            None => StepError::StartFailed { unit: name.unit(), result: properties.failure(&result) },
        })
    }

    /// Stops a unit and waits for its job. A unit that is not loaded is stopped already.
    ///
    /// # Errors
    /// `StopFailed` with the job's result, `JobTimedOut`, or `Bus`.
    pub(super) async fn stop(&self, name: &ContainerName) -> Result<(), StepError> {
        let result = self.job(&name.unit(), Verb::Stop).await?;
        if result == JobEnd::Done {
            return Ok(());
        }
        // Whatever happened to the job: what was asked for is that nothing runs.
        match self.loaded_properties(name).await? {
            Some(properties) if properties.active_state().has_processes() => {
                Err(StepError::StopFailed { unit: name.unit(), result: result.to_string() })
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Returns whether the host's configuration has a mount unit of this name (`fstab`(5) included) that is not active.
    pub(super) async fn can_mount(&self, unit: &str) -> Result<bool, StepError> {
        let properties = self.load(unit).await?;
        Ok(!properties.is_active() && properties.has_file())
    }

    /// Mounts what a mount unit stands for, if the host's configuration has one of this name (`fstab`(5) included).
    ///
    /// # Errors
    /// `StartFailed` with the job's result, `JobTimedOut`, or `Bus`.
    pub(super) async fn start_mount(&self, unit: &str) -> Result<(), StepError> {
        if !self.can_mount(unit).await? {
            return Ok(());
        }
        match self.job(unit, Verb::Start).await? {
            JobEnd::Done | JobEnd::Unseen => Ok(()),
            JobEnd::Other(result) => Err(StepError::StartFailed { unit: unit.to_owned(), result }),
        }
    }

    /// Unmounts what a mount unit stands for.
    ///
    /// # Errors
    /// `StopFailed` with the job's result, `JobTimedOut`, or `Bus`.
    pub(super) async fn stop_mount(&self, unit: &str) -> Result<(), StepError> {
        match self.job(unit, Verb::Stop).await? {
            JobEnd::Done | JobEnd::Unseen => Ok(()),
            JobEnd::Other(result) => Err(StepError::StopFailed { unit: unit.to_owned(), result }),
        }
    }

    async fn job(&self, unit: &str, verb: Verb) -> Result<JobEnd, StepError> {
        let connection = self.bus.connection().await?;
        let manager = manager(&connection).await?;
        // Before the call: the signal may be read before the reply is.
        let mut ended = self.jobs.subscribe();
        let mut ours = self.jobs.ours(unit);
        let (call, queued) = match verb {
            // `fail`: a stop job of somebody else, or of the host's shutdown, is not cancelled.
            Verb::Start => ("StartUnit", manager.start_unit(unit.to_owned(), "fail".to_owned()).await),
            Verb::Stop => ("StopUnit", manager.stop_unit(unit.to_owned(), "replace".to_owned()).await),
        };
        let path = match queued {
            Ok(path) => path,
            Err(error) if verb == Verb::Stop && is_error(&error, NO_SUCH_UNIT) => return Ok(JobEnd::Done),
            Err(error) => return Err(failed(call, unit, error)),
        };
        let id = jobs::id_of(&path).ok_or_else(|| failed(call, unit, zbus::Error::InvalidReply))?;
        ours.is_job(id);
        let mut wait = pin!(async {
            loop {
                if let Some(end) = ended.next(id).await {
                    return Ok(end);
                }
                // Signals were lost (a new connection, a full queue): ask once, then wait on.
                if !self.job_exists(id).await? {
                    return Ok(JobEnd::Unseen);
                }
            }
        });
        // Most jobs end long before their limit matters, and telling it takes systemd 1 ms while it is starting others.
        if let Ok(ended) = tokio::time::timeout(JOB_MARGIN, &mut wait).await {
            return ended;
        }
        let limit = self.job_limit(unit).await?;
        let job = match verb {
            Verb::Start => "start",
            Verb::Stop => "stop",
        };
        let timed_out = || StepError::JobTimedOut { unit: unit.to_owned(), job, limit };
        tokio::time::timeout(limit.saturating_sub(JOB_MARGIN), wait)
            .await
            .unwrap_or_else(|_elapsed| Err(timed_out()))
    }

    async fn job_exists(&self, id: u32) -> Result<bool, StepError> {
        let connection = self.bus.connection().await?;
        match manager(&connection).await?.get_job(id).await {
            Ok(_) => Ok(true),
            Err(error) if is_error(&error, "org.freedesktop.systemd1.NoSuchJob") => Ok(false),
            Err(error) => Err(failed("GetJob", id.to_string(), error)),
        }
    }

    /// How long a job of this unit may take: what the unit allows its commands, and a margin.
    async fn job_limit(&self, unit: &str) -> Result<Duration, StepError> {
        let properties = self.properties_if_loaded(unit).await?.unwrap_or_default();
        Ok(properties.job_time().map_or(JOB_LIMIT_MAX, |time| (time + JOB_MARGIN).min(JOB_LIMIT_MAX)))
    }

    /// Sets properties of an active unit until the next reload or stop, all in one call.
    pub(super) async fn set_properties(&self, unit: &str, properties: &Properties) -> Result<(), StepError> {
        let connection = self.bus.connection().await?;
        let body = (unit, true, properties);
        let set = connection.call_method(Some(DESTINATION), PATH, Some(MANAGER), "SetUnitProperties", &body).await;
        // systemd sends no signal for it.
        self.cache.unit_changed(unit);
        set.map(drop).map_err(|e| failed("SetUnitProperties", unit, e))
    }

    /// Makes systemd read its unit files again. Calls made while one waits are served by one reload.
    pub(super) async fn reload(&self) -> Result<(), StepError> {
        let mine = self.reloads_asked.fetch_add(1, Ordering::SeqCst) + 1;
        let mut done = self.reloads_done.lock().await;
        if *done >= mine {
            return Ok(());
        }
        let covers = self.reloads_asked.load(Ordering::SeqCst);
        let connection = self.bus.connection().await?;
        let reloaded = manager(&connection).await?.reload().await;
        self.cache.all_changed();
        reloaded.map_err(|e| failed("Reload", "systemd", e))?;
        *done = covers;
        Ok(())
    }

    /// Returns whether a job that is not ours is queued or running on a unit.
    pub(super) fn is_foreign_job(&self, unit: &ListedUnit) -> bool {
        unit.job.is_some_and(|job| !self.jobs.is_ours(&unit.name.unit(), job))
    }
}

/// Returns systemd's manager object, without caching its properties.
pub(super) async fn manager(connection: &Connection) -> Result<ManagerProxy<'_>, StepError> {
    ManagerProxy::builder(connection)
        .cache_properties(zbus::proxy::CacheProperties::No)
        .build()
        .await
        .map_err(|e| failed("connect", "systemd", e))
}
