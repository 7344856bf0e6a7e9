// The bare client: POSTs the lines of a file, one a user, over connections that stay open, and prints when each was answered.
package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

func main() {
	url := flag.String("url", "", "address of the realm's users")
	file := flag.String("bodies", "", "file with the body of one POST a line")
	connections := flag.Int("c", 16, "requests in flight")
	flag.Parse()
	token := "Bearer " + os.Getenv("BENCH_TOKEN")
	text, err := os.ReadFile(*file)
	if err != nil {
		fail(err)
	}
	bodies := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: *connections}, Timeout: time.Minute}
	answered := make([]float64, len(bodies))
	next := int64(-1)
	var workers sync.WaitGroup
	before, begin := cpu(), time.Now()
	for range *connections {
		workers.Add(1)
		go func() {
			defer workers.Done()
			for {
				number := int(atomic.AddInt64(&next, 1))
				if number >= len(bodies) {
					return
				}
				if err := post(client, *url, token, bodies[number]); err != nil {
					fail(err)
				}
				answered[number] = time.Since(begin).Seconds()
			}
		}()
	}
	workers.Wait()
	used := cpu() - before
	json.NewEncoder(os.Stdout).Encode(map[string]any{"at_s": answered, "cpu_s": used})
}

func post(client *http.Client, url, token string, body []byte) error {
	request, err := http.NewRequest("POST", url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", token)
	request.Header.Set("Content-Type", "application/json")
	answer, err := client.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if _, err := io.Copy(io.Discard, answer.Body); err != nil {
		return err
	}
	if answer.StatusCode != http.StatusCreated {
		return fmt.Errorf("Keycloak answered %d to a POST of the bare client", answer.StatusCode)
	}
	return nil
}

func cpu() float64 {
	var used syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &used)
	return time.Duration(used.Utime.Nano() + used.Stime.Nano()).Seconds()
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
