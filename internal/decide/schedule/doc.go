// Package schedule says what floor and ceiling a fleet has at an instant, by windows of local time: daily, weekly, between
// dates, on holidays or not on them.
//
// A window's occurrence belongs to the local date on which it begins; one that runs over midnight on Friday ends on Saturday.
// It begins and ends at the first instant at which the clock on the wall is at or past the time that is written. So a
// beginning that clocks skip is the first instant after the gap; a window that is skipped altogether, as all of 2011-12-30
// was in Samoa, does not occur; and when clocks go back, an hour that is repeated neither begins nor ends a window again.
//
// The package reads no clock and no zone files: times and zones are arguments. That a ceiling is lifted by live load is said
// here and done by the engine, which knows the load.
package schedule
