"""The way out: due schedules, from the timetable to the reply subject."""
