package cascade_test

import (
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	cascade "example.com/cascade/client"
	"example.com/cascade/client/cascadev1"
)

// expectation is what must come of a vector; clients/README.md tells what its members mean.
type expectation struct {
	Verdict  string
	Present  []string
	Absent   []string
	Equal    map[string]any
	Answers  *[]expectation
	Code     string
	Reason   string
	Field    string
	Metadata map[string]string
	Retry    *bool
}

func (e expectation) items(t *testing.T, results []cascade.Result, err error) {
	t.Helper()
	if e.Code != "" {
		e.error(t, err)
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if len(results) != len(*e.Answers) {
		t.Fatalf("%d answers, not %d", len(results), len(*e.Answers))
	}
	for place, answer := range *e.Answers {
		if failure := results[place].Err; failure != nil {
			answer.item(t, results[place], failure)
		} else {
			answer.item(t, results[place], nil)
		}
	}
}

func (e expectation) item(t *testing.T, result cascade.Result, err error) {
	t.Helper()
	if e.Code != "" {
		e.error(t, err)
	} else if err != nil {
		t.Fatal(err)
	} else {
		e.answer(t, result.Response.GetVerdict(), result.Response)
	}
}

func (e expectation) error(t *testing.T, err error) {
	t.Helper()
	var failure *cascade.Error
	if !errors.As(err, &failure) {
		t.Fatalf("%s was expected, not %v", e.Code, err)
	}
	var code codes.Code
	if err := code.UnmarshalJSON([]byte(strconv.Quote(e.Code))); err != nil {
		t.Fatal(err)
	}
	if failure.Code != code || failure.Reason != e.Reason {
		t.Errorf("%v %q, not %v %q", failure.Code, failure.Reason, code, e.Reason)
	}
	if e.Field != "" && (len(failure.Fields) == 0 || failure.Fields[0].Name != e.Field) {
		t.Errorf("fields are %v, not %s", failure.Fields, e.Field)
	}
	for name, value := range e.Metadata {
		if failure.Metadata[name] != value {
			t.Errorf("%s is %q, not %q", name, failure.Metadata[name], value)
		}
	}
	if e.Retry != nil && *e.Retry != (failure.RetryAfter != nil) {
		t.Errorf("retry after %v", failure.RetryAfter)
	}
}

func (e expectation) answer(t *testing.T, verdict cascadev1.Verdict, message proto.Message) {
	t.Helper()
	written, err := protojson.Marshal(message)
	if err != nil {
		t.Fatal(err)
	}
	var answer any
	if err := json.Unmarshal(written, &answer); err != nil {
		t.Fatal(err)
	}
	if e.Verdict != "" && e.Verdict != verdict.String() {
		t.Errorf("verdict is %v, not %s", verdict, e.Verdict)
	}
	for _, path := range e.Present {
		if isDefault(at(answer, path)) {
			t.Errorf("%s is absent", path)
		}
	}
	for _, path := range e.Absent {
		if value := at(answer, path); !isDefault(value) {
			t.Errorf("%s is %v", path, value)
		}
	}
	for path, value := range e.Equal {
		if found := at(answer, path); found != value {
			t.Errorf("%s is %v, not %v", path, found, value)
		}
	}
}

// at walks a path like "hazards.0.slug"; nil where it leads nowhere.
func at(value any, path string) any {
	for _, step := range strings.Split(path, ".") {
		switch inside := value.(type) {
		case map[string]any:
			value = inside[step]
		case []any:
			place, err := strconv.Atoi(step)
			if err != nil || place >= len(inside) {
				return nil
			}
			value = inside[place]
		default:
			return nil
		}
	}
	return value
}

func isDefault(value any) bool {
	switch value := value.(type) {
	case []any:
		return len(value) == 0
	case map[string]any:
		return false
	}
	return value == nil || value == false || value == 0.0 || value == ""
}
