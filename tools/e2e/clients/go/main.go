// A client on google.golang.org/grpc with generated code. ../README.md says what it does.
package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	wrenn "wrenn.test/client/gen/wrenn/v1"
)

const (
	messageBytes = 256 << 10
	diskBytes    = 3 << 30
)

type command struct {
	Kinds    []string `json:"kinds"`
	Stdout   string   `json:"stdout"`
	Stderr   string   `json:"stderr"`
	ExitCode int32    `json:"exitCode"`
}

type transfer struct {
	Bytes   uint64  `json:"bytes"`
	Sha256  string  `json:"sha256"`
	Seconds float64 `json:"seconds"`
}

type left struct {
	Names    []string `json:"names"`
	ExtraKib int      `json:"extraKib"`
}

type outcome struct {
	Command            command    `json:"command"`
	Written            transfer   `json:"written"`
	ReadBack           transfer   `json:"readBack"`
	CancelledWriteCode codes.Code `json:"cancelledWriteCode"`
	Left               left       `json:"left"`
	CancelledReadCode  codes.Code `json:"cancelledReadCode"`
	State              string     `json:"state"`
	PeakBytes          int64      `json:"peakBytes"`
}

type client struct {
	sandboxes wrenn.SandboxServiceClient
	processes wrenn.ProcessServiceClient
	files     wrenn.FilesystemServiceClient
	fileBytes int
	seed      string
	sandboxID string
}

// The same bytes for the same seed, which nothing can compress.
func (c *client) pseudoRandom(name string) io.Reader {
	return rand.NewChaCha8(sha256.Sum256([]byte(c.seed + " " + name)))
}

func (c *client) streamedCommand(ctx context.Context) (said command, err error) {
	spec := &wrenn.ProcessSpec{Command: "/bin/sh", Args: []string{"-c", "echo one; echo two >&2; exit 4"}}
	stream, err := c.processes.Start(ctx, &wrenn.ProcessServiceStartRequest{SandboxId: c.sandboxID, Process: spec})
	if err != nil {
		return said, err
	}
	for {
		answer, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return said, nil
		}
		if err != nil {
			return said, err
		}
		switch event := answer.Event.Event.(type) {
		case *wrenn.ProcessEvent_Started:
			said.Kinds = append(said.Kinds, "started")
		case *wrenn.ProcessEvent_Stdout:
			said.Kinds = append(said.Kinds, "stdout")
			said.Stdout += string(event.Stdout)
		case *wrenn.ProcessEvent_Stderr:
			said.Kinds = append(said.Kinds, "stderr")
			said.Stderr += string(event.Stderr)
		case *wrenn.ProcessEvent_Exited:
			said.Kinds = append(said.Kinds, "exited")
			said.ExitCode = event.Exited.ExitCode
		}
	}
}

type writeStream = grpc.ClientStreamingClient[wrenn.FilesystemServiceWriteRequest, wrenn.FilesystemServiceWriteResponse]

// Sends the start of a file and as many of its bytes; `seen` is shown each of them.
func (c *client) send(ctx context.Context, path string, count int, seen io.Writer) (writeStream, error) {
	stream, err := c.files.Write(ctx)
	if err != nil {
		return nil, err
	}
	start := &wrenn.FilesystemServiceWriteRequest_Start{Start: &wrenn.WriteStart{SandboxId: c.sandboxID, Path: path}}
	if err := stream.Send(&wrenn.FilesystemServiceWriteRequest{Part: start}); err != nil {
		return stream, err
	}
	source := c.pseudoRandom(path)
	for ; count > 0; count -= messageBytes {
		chunk := make([]byte, min(messageBytes, count))
		if _, err := io.ReadFull(source, chunk); err != nil {
			return stream, err
		}
		seen.Write(chunk)
		data := &wrenn.FilesystemServiceWriteRequest_Data{Data: chunk}
		if err := stream.Send(&wrenn.FilesystemServiceWriteRequest{Part: data}); err != nil {
			return stream, err
		}
	}
	return stream, nil
}

func (c *client) write(ctx context.Context, path string) (transfer, error) {
	started, digest := time.Now(), sha256.New()
	stream, err := c.send(ctx, path, c.fileBytes, digest)
	if err != nil {
		return transfer{}, err
	}
	finish := &wrenn.FilesystemServiceWriteRequest_Finish{Finish: &wrenn.WriteFinish{}}
	if err := stream.Send(&wrenn.FilesystemServiceWriteRequest{Part: finish}); err != nil {
		return transfer{}, err
	}
	answer, err := stream.CloseAndRecv()
	if err != nil {
		return transfer{}, err
	}
	sum := hex.EncodeToString(digest.Sum(nil))
	return transfer{answer.Entry.SizeBytes, sum, time.Since(started).Seconds()}, nil
}

// Reads to the end, or until `enough` says so.
func (c *client) read(ctx context.Context, path string, enough func(count uint64)) (transfer, error) {
	started, digest, count := time.Now(), sha256.New(), uint64(0)
	stream, err := c.files.Read(ctx, &wrenn.FilesystemServiceReadRequest{SandboxId: c.sandboxID, Path: path})
	if err != nil {
		return transfer{}, err
	}
	for {
		part, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return transfer{count, hex.EncodeToString(digest.Sum(nil)), time.Since(started).Seconds()}, nil
		}
		if err != nil {
			return transfer{}, err
		}
		digest.Write(part.GetData())
		count += uint64(len(part.GetData()))
		enough(count)
	}
}

func (c *client) cancelledWrite(ctx context.Context, path string) codes.Code {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.send(ctx, path, c.fileBytes/4, io.Discard)
	if err == nil {
		cancel()
		_, err = stream.CloseAndRecv()
	}
	return status.Code(err)
}

func (c *client) cancelledRead(ctx context.Context, path string) codes.Code {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	_, err := c.read(ctx, path, func(count uint64) {
		if count >= uint64(c.fileBytes/4) {
			cancel()
		}
	})
	return status.Code(err)
}

func (c *client) shell(ctx context.Context, script string) (string, error) {
	spec := &wrenn.ProcessSpec{Command: "/bin/sh", Args: []string{"-c", script}}
	answer, err := c.processes.Exec(ctx, &wrenn.ProcessServiceExecRequest{SandboxId: c.sandboxID, Process: spec})
	return strings.TrimSpace(string(answer.GetStdout())), err
}

// Names in the directory, and KiB in use on the disk once they are as few as before, at last after 20 s.
const whatIsLeft = `for i in $(seq 100); do k=$(df -k / | awk 'END{print $3}'); [ $k -le %d ] && break; sleep 0.2; done
ls -A /srv/own; echo $k`

func (c *client) run(ctx context.Context) (told outcome, err error) {
	create := &wrenn.SandboxServiceCreateRequest{Template: "minimal", DiskBytes: diskBytes}
	created, err := c.sandboxes.Create(ctx, create)
	if err != nil {
		return told, err
	}
	c.sandboxID = created.Sandbox.Id
	if told.Command, err = c.streamedCommand(ctx); err != nil {
		return told, err
	}
	if told.Written, err = c.write(ctx, "/srv/own/file"); err != nil {
		return told, err
	}
	if told.ReadBack, err = c.read(ctx, "/srv/own/file", func(uint64) {}); err != nil {
		return told, err
	}
	used, err := c.shell(ctx, "sync; df -k / | awk 'END{print $3}'")
	if err != nil {
		return told, err
	}
	usedKib, err := strconv.Atoi(used)
	if err != nil {
		return told, err
	}
	told.CancelledWriteCode = c.cancelledWrite(ctx, "/srv/own/cancelled")
	said, err := c.shell(ctx, fmt.Sprintf(whatIsLeft, usedKib+1024))
	if err != nil {
		return told, err
	}
	lines := strings.Split(said, "\n")
	kib, err := strconv.Atoi(lines[len(lines)-1])
	if err != nil {
		return told, err
	}
	told.Left = left{lines[:len(lines)-1], kib - usedKib}
	told.CancelledReadCode = c.cancelledRead(ctx, "/srv/own/file")
	if _, err := c.sandboxes.Destroy(ctx, &wrenn.SandboxServiceDestroyRequest{SandboxId: c.sandboxID}); err != nil {
		return told, err
	}
	gone, err := c.sandboxes.Get(ctx, &wrenn.SandboxServiceGetRequest{SandboxId: c.sandboxID})
	if err != nil {
		return told, err
	}
	told.State = gone.Sandbox.State.String()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return told, err
	}
	told.PeakBytes = usage.Maxrss * 1024
	return told, nil
}

func connected(addresses ...string) (connections []*grpc.ClientConn, err error) {
	for _, address := range addresses {
		connection, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			return nil, err
		}
		connections = append(connections, connection)
	}
	return connections, nil
}

func main() {
	fileBytes, err := strconv.Atoi(os.Args[3])
	if err != nil {
		panic(err)
	}
	connections, err := connected(os.Args[1], os.Args[2])
	if err != nil {
		panic(err)
	}
	c := &client{
		sandboxes: wrenn.NewSandboxServiceClient(connections[0]),
		processes: wrenn.NewProcessServiceClient(connections[0]),
		files:     wrenn.NewFilesystemServiceClient(connections[1]),
		fileBytes: fileBytes,
		seed:      os.Args[4],
	}
	told, err := c.run(context.Background())
	if err != nil {
		panic(err)
	}
	if err := json.NewEncoder(os.Stdout).Encode(told); err != nil {
		panic(err)
	}
}
