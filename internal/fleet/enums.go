package fleet

// Unit is a signal's base unit. Thresholds are written with it and kept in it.
type Unit uint8

const (
	Number  Unit = iota // a count or a rate
	Percent             // 0..100
	Seconds
	Bytes
)

var unitNames = [...]string{"number", "percent", "seconds", "bytes"}

// UnitNames lists the units.
func UnitNames() []string { return unitNames[:] }

func (u Unit) String() string                { return nameOf(unitNames[:], int(u)) }
func (u Unit) MarshalText() ([]byte, error)  { return []byte(u.String()), nil }
func (u *Unit) UnmarshalText(b []byte) error { return parseName(u, unitNames[:], b, "unit") }

// Operator compares a datapoint with a threshold. The zero value compares nothing and never holds.
type Operator uint8

const (
	NoOperator Operator = iota
	AtLeast
	Above
	AtMost
	Below
)

var operatorNames = [...]string{"", ">=", ">", "<=", "<"}

func (o Operator) String() string               { return nameOf(operatorNames[:], int(o)) }
func (o Operator) MarshalText() ([]byte, error) { return []byte(o.String()), nil }
func (o *Operator) UnmarshalText(b []byte) error {
	return parseName(o, operatorNames[:], b, "operator")
}

// Holds reports whether "value o threshold" is true. NaN never breaches.
func (o Operator) Holds(value, threshold float64) bool {
	switch o {
	case AtLeast:
		return value >= threshold
	case Above:
		return value > threshold
	case AtMost:
		return value <= threshold
	case Below:
		return value < threshold
	case NoOperator:
	}
	return false
}

// Mode says what a fleet's decisions may do. The zero value is Off: nothing acts that was not told to.
type Mode uint8

const (
	Off          Mode = iota // nothing is decided or done
	Shadow                   // decided and recorded, never done
	ScaleOutOnly             // grows, never shrinks
	On
)

var modeNames = [...]string{"off", "shadow", "scale_out_only", "on"}

// ModeNames lists the modes as they are written.
func ModeNames() []string { return modeNames[:] }

func (m Mode) String() string                { return nameOf(modeNames[:], int(m)) }
func (m Mode) MarshalText() ([]byte, error)  { return []byte(m.String()), nil }
func (m *Mode) UnmarshalText(b []byte) error { return parseName(m, modeNames[:], b, "mode") }

// AlarmState is a rule's state, as in CloudWatch.
type AlarmState uint8

const (
	InsufficientData AlarmState = iota
	OK
	Alarm
)

var alarmNames = [...]string{"insufficient_data", "ok", "alarm"}

func (a AlarmState) String() string               { return nameOf(alarmNames[:], int(a)) }
func (a AlarmState) MarshalText() ([]byte, error) { return []byte(a.String()), nil }
func (a *AlarmState) UnmarshalText(b []byte) error {
	return parseName(a, alarmNames[:], b, "alarm state")
}
