package cascade.client;

import io.grpc.stub.ClientCallStreamObserver;
import io.grpc.stub.ClientResponseObserver;
import java.util.Optional;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;

/**
 * A bidirectional call that is read and written by waiting. One thread may write while another reads.
 *
 * <p>One answer is asked for at a time, and a write waits until the transport has room: HTTP/2 flow control holds back
 * whichever side is faster.
 */
abstract class OpenCall<Q, A> implements ClientResponseObserver<Q, A>, AutoCloseable {
    private record Arrived<A>(A answer, Throwable error) {} // neither of the two: the call has ended well

    private final BlockingQueue<Arrived<A>> arrived = new LinkedBlockingQueue<>();
    private final Object room = new Object();
    private ClientCallStreamObserver<Q> call;
    private boolean over; // guarded by room
    private Arrived<A> end; // of the reading thread

    @Override
    public final void beforeStart(ClientCallStreamObserver<Q> call) {
        this.call = call;
        call.disableAutoRequestWithInitial(1);
        call.setOnReadyHandler(() -> {
            synchronized (room) {
                room.notifyAll();
            }
        });
    }

    @Override
    public final void onNext(A answer) {
        arrived.add(new Arrived<>(answer, null));
    }

    @Override
    public final void onError(Throwable error) {
        finish(error);
    }

    @Override
    public final void onCompleted() {
        finish(null);
    }

    /** Cancels what is under way. */
    @Override
    public void close() {
        synchronized (room) {
            if (over) {
                return;
            }
        }
        call.cancel("closed by the caller", null);
    }

    /** Sends a message as soon as there is room; false if the call is over. */
    final boolean write(Q message) throws InterruptedException {
        synchronized (room) {
            while (!over && !call.isReady()) {
                room.wait();
            }
            if (over) {
                return false;
            }
        }
        call.onNext(message);
        return true;
    }

    /** Says that there is nothing more to send. */
    final void endWriting() {
        synchronized (room) {
            if (over) {
                return;
            }
        }
        call.onCompleted();
    }

    /** The next answer, none at the end; throws if the call has failed. */
    final Optional<A> read() throws InterruptedException {
        if (end == null) {
            Arrived<A> next = arrived.take();
            if (next.answer != null) {
                call.request(1);
                return Optional.of(next.answer);
            }
            end = next;
        }
        if (end.error != null) {
            throw CascadeException.of(end.error);
        }
        return Optional.empty();
    }

    private void finish(Throwable error) {
        arrived.add(new Arrived<>(null, error));
        synchronized (room) {
            over = true;
            room.notifyAll();
        }
    }
}
