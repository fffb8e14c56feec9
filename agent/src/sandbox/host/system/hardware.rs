//! What sysinfo knows better than a file of procfs: sensors, whose files are many and named differently by
//! each driver, the operating system's name, physical cores. Of this machine, whatever the root folder is.

use super::families::{labelled, plain};
use super::{Reader, Reading, lock};
use std::collections::HashMap;
use sysinfo::{Components, System};

impl Reader {
    pub(super) fn hardware(&self) -> Vec<Reading> {
        let mut readings = vec![Reading {
            metric: "host_info",
            labels: vec![
                ("os", System::long_os_version().unwrap_or_default()),
                ("kernel", System::kernel_version().unwrap_or_default()),
                ("architecture", System::cpu_arch()),
            ],
            value: 1.0,
        }];
        let cores = System::physical_core_count().ok();
        readings.extend(cores.map(|cores| plain("cpu_physical_count", cores as f64)));
        let mut components = lock(&self.components);
        match &mut *components {
            Some(components) => components.refresh(true),
            // A machine without sensors has an empty list.
            none => *none = Components::new_with_refreshed_list().ok(),
        }
        let sensors = components
            .as_ref()
            .map_or(&[][..], |components| &**components);
        let sensors = sensors
            .iter()
            .filter_map(|sensor| Some((sensor.label(), sensor.temperature()?)));
        readings.extend(temperatures(sensors));
        readings
    }
}

/// One reading a sensor. Drivers repeat labels: the second `Core 0` is `Core 0 #2`.
fn temperatures<'a>(sensors: impl Iterator<Item = (&'a str, f32)>) -> Vec<Reading> {
    let mut seen: HashMap<&str, u32> = HashMap::new();
    sensors
        .filter(|(_, celsius)| celsius.is_finite())
        .map(|(label, celsius)| {
            let count = seen.entry(label).or_default();
            *count += 1;
            let name = if *count == 1 {
                label.to_owned()
            } else {
                format!("{label} #{count}")
            };
            let metric = "hardware_temperature_celsius";
            labelled(metric, "sensor", name, f64::from(celsius))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sensors_of_one_label_stay_apart_and_broken_ones_are_left_out() {
        let sensors = [("Core 0", 41.5), ("nvme", f32::NAN), ("Core 0", 43.0)];
        let readings = temperatures(sensors.into_iter());
        let named: Vec<_> = readings
            .iter()
            .map(|reading| (reading.labels[0].1.as_str(), reading.value))
            .collect();
        assert_eq!(named, [("Core 0", 41.5), ("Core 0 #2", 43.0)]);
    }

    #[test]
    fn the_machine_says_what_it_is() {
        let readings = Reader::new(super::super::SystemSettings::default()).hardware();
        assert_eq!(readings[0].metric, "host_info");
        assert!(!readings[0].labels[1].1.is_empty(), "{readings:?}");
    }
}
