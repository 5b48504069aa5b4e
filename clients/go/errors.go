package cascade

import (
	"fmt"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"example.com/cascade/client/cascadev1"
)

// Error is a call, or one item of it, that got no answer.
type Error struct {
	Code     codes.Code
	Message  string
	Reason   string            // stable, for instance "LIMIT_EXCEEDED"; "" if the error is not the server's own
	Metadata map[string]string // what belongs to the reason, for instance the limit
	Fields   []Field           // which fields of the request are wrong
	// RetryAfter is when a later try may succeed; nil if the server has not said so.
	RetryAfter *time.Duration

	status *status.Status
}

// Field is a field of the request that is wrong, and why.
type Field struct {
	Name        string
	Description string
}

func (e *Error) Error() string {
	if e.Reason == "" {
		return fmt.Sprintf("cascade: %s: %s", e.Code, e.Message)
	}
	return fmt.Sprintf("cascade: %s (%s): %s", e.Code, e.Reason, e.Message)
}

// GRPCStatus lets status.FromError and status.Code see the status with all its details.
func (e *Error) GRPCStatus() *status.Status { return e.status }

func fromCall(err error) *Error { return fromStatus(status.Convert(err)) }

func fromStatus(from *status.Status) *Error {
	made := &Error{Code: from.Code(), Message: from.Message(), status: from}
	for _, detail := range from.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			made.Reason, made.Metadata = detail.GetReason(), detail.GetMetadata()
		case *errdetails.BadRequest:
			for _, violation := range detail.GetFieldViolations() {
				made.Fields = append(made.Fields, Field{violation.GetField(), violation.GetDescription()})
			}
		case *errdetails.RetryInfo:
			wait := detail.GetRetryDelay()
			delay := time.Duration(wait.GetSeconds())*time.Second + time.Duration(wait.GetNanos())
			made.RetryAfter = &delay
		}
	}
	return made
}

func result(id string, response *cascadev1.CheckResponse, failure *spb.Status) Result {
	if failure != nil {
		return Result{RequestID: id, Err: fromStatus(status.FromProto(failure))}
	}
	return Result{RequestID: id, Response: response}
}
